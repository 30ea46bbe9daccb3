"""The command `vitrim`: one module a verb.

Read first: main.py (finds the verb, turns errors into sentences), then verbs/train.py.
Imports only: everything.
"""
