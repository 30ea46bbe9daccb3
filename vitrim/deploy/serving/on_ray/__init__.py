"""The same application past one machine, on Ray Serve.

    proxy ──> fronts: the application (access, limits, decoding, answers)
                └──> computing: a backbone each, and the adapters its requests asked for, in batches

Read first: computing.py, then front.py. Ray is imported where it is used.
"""
