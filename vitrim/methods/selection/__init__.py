"""Which of a backbone's weights to train: scores, allocation, placement of reducers.

Read first: scores.py, then allocation.py.
Imports only: network and below.
"""
