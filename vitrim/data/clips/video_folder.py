"""video-folder:PATH: clips sorted into one folder per class, with or without train/ val/ test/

What folder:PATH is for pictures. A clip is a video file, a .npy array, or a folder of frames: one that holds
pictures and no folders. Without splits every class is split 70 / 10 / 20 by `seed`. How frames are chosen:
frames=8, stride=0, views=1, crops=1, augment=run, as for video:FILE.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from vitrim.data.clips.containers import ENDINGS
from vitrim.data.clips.reader import ClipReader
from vitrim.data.clips.sampling import OPTIONS, ClipSampling, sampling_of
from vitrim.data.clips.stills import by_number
from vitrim.data.clips.video import check_decoder
from vitrim.data.finding import ending, is_hidden, is_picture
from vitrim.data.folder import Sorted, open_sorted
from vitrim.data.source import DataSource, Spec

CLIP_FILES = (*ENDINGS, ".npy")


def open_video_folder(spec: Spec) -> DataSource:
    if not spec.rest:
        raise ValueError("video-folder needs a path: write video-folder:PATH")
    return open_sorted_clips(spec, spec.rooted(spec.rest), ClipSampling())


def open_sorted_clips(spec: Spec, path: Path, usual: ClipSampling) -> DataSource:
    spec.allow(*OPTIONS, "seed")
    spec, sampling = sampling_of(spec, usual)
    things = Sorted("clips", ClipReader(sampling), walk_clips, is_clip, CLIP_FILES, folders_too=True)
    data = open_sorted(spec, path, things)
    check_decoder(data.splits)
    return data


def is_clip(path: Path) -> bool:
    """Whether something in a folder of classes is a clip: a file by its ending, a folder by what it holds."""
    if is_hidden(path.name):
        return False
    return holds_frames(path) if path.is_dir() else ending(path.name) in CLIP_FILES


def holds_frames(folder: Path) -> bool:
    """Whether a folder is a clip by itself: pictures, and neither folders nor video files."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if entry.is_dir() or ending(entry.name) in CLIP_FILES:
                return False
            if is_picture(entry.name):  # of many thousand frames the first tells
                return True
    return False


def walk_clips(folder: Path, _unread: Counter[str] | None = None) -> Iterator[Path]:
    """The clips below a folder, in the order of their names; the folder itself is none."""
    entries = sorted(
        (entry for entry in folder.iterdir() if not is_hidden(entry.name)), key=lambda e: by_number(e.name)
    )
    for entry in entries:
        if is_clip(entry):
            yield entry
        elif entry.is_dir():
            yield from walk_clips(entry, _unread)
