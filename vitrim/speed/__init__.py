"""How fast a composition is, in every way it can be run, beside the plain backbone in the same process.

Read first: ways.py (what is run), then measuring.py.
Imports only: report, training, deploy and below.
"""
