"""What flows through the network: tokens, where they came from, and how a reduction moves them.

Read first: state.py, then grouping.py (the one operation every reducer uses).
Imports only: checks, lazy, writing.
"""
