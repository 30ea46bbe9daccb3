"""The ways out: exported files, which were run and compared before they got their name.

Read first: export.py (what happens to a model on its way out), then check.py.
Imports only: runs and below.
"""
