"""The loop: from a settled plan to a trained run, resumable from any kill.

Read first: loop.py from top to bottom, then epoch.py.
Imports only: runs and below.
"""
