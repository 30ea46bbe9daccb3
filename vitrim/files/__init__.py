"""What is saved: one file for a composition, adapters swapped in place, the PEFT library's layout.

Read first: saving.py, then swap.py.
Imports only: compose and below; measuring.
"""
