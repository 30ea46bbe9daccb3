"""Outputs for every pixel: segmentation, open-vocabulary segmentation, features for detection.

Reducers leave fewer tokens than there are patches; here they come back on the grid (`vitrim.restore`) before
anything is said about pixels. Read `model.py` first, then `restoring.py`.
"""
