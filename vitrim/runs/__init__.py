"""A run on disk, and what is done with one: opening, evaluating, predicting.

Read first: folder.py (what lies in a run folder), then opening.py.
Imports only: settings and below; papers.
"""
