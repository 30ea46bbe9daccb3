"""The one forward pass and its plug points: what a method is, and the stage it plugs into.

Read first: method.py, then stage.py; combinations.py and placing.py say what cannot stand together.
Imports only: backbones, tokens.
"""
