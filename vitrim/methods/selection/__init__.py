"""Choosing by data which weights train and which blocks are thinned: scores, allocation, placement."""
