"""Clips in, classes out: `VideoModel`, an image model whose frames' tokens are pooled over time.

Read `model.py` first; `settings.py` holds what can be chosen, `pooling.py` and `temporal.py` the parts.
"""
