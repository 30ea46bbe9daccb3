"""Predictions and embeddings of millions of images: parts of a table, each written whole, then the table.

Read first: predicting.py (what happens, top to bottom), then job.py (what lies on disk). ray_actors.py alone
knows Ray and is imported only where it is asked for.
"""
