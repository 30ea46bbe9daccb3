"""Many runs from one file: grids, searches, queues, clusters and the table at the end.

Read first: file.py (what is asked for), then running.py.
Imports only: training and below.
"""
