"""Compositions that stay within a budget, counted and where asked timed.

Read first: proposals.py.
Imports only: training and below.
"""
