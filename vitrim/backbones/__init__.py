"""Everything that knows timm: opening a backbone, what of it is supported, calling its parts by name.

Read first: bridge.py (one block, called part by part), then sites.py (where tuners may stand).
Imports only: tokens and the ground below.
"""
