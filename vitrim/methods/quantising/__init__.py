"""Weights in 1 to 8 bits: layers that train them, and how they are packed into bytes.

Read first: linear.py, then packing.py.
Imports only: network and below.
"""
