"""Clips: short runs of frames out of videos, as one class each.

    data = open_data("video:train.csv?frames=8&stride=16&views=3", root="~/videos")
    data.clips                                       # how frames are chosen: frames, stride, views, crops

A split of clips is a `Split` whose reader is a `ClipReader`; training samples are [C, T, height, width],
evaluation samples [V, C, T, height, width], V = temporal views x spatial crops.
Read first: sampling.py (which frames), reader.py (where they come from), samples.py (what a loader gets).
"""
