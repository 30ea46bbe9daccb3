"""Image-text retrieval: a composed vision tower beside a text tower, their training, their ranking, and
galleries that are searched with words. Read `model.py` first, then `losses.py` and `evaluating.py`.
"""
