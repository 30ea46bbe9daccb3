"""k400: ssv2: ucf101: hmdb51: (FOLDER or FILE): these data sets, sampled, augmented and tested as published

They differ from video:FILE and video-folder:PATH by what is usual:

            frames  stride         training                                          test views
    k400    8       16, any start  short side 1.0 to 1.15 of the size, crop, flip    3 in time x centre
    ssv2    8       segments       rand-m7-n4-mstd0.5-inc1, resized crop, no flip    1 in time x 3 crops
    ucf101, hmdb51: as k400

as in DyT's video pipeline (arXiv 2403.11808), which normalises by mean = std = 0.5. A folder holds train.csv
(or k400_train.txt ...) with val and test beside it, or class folders, in train/ and val/ or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from vitrim.data.clips.sampling import ClipSampling
from vitrim.data.clips.video import open_list, with_usual
from vitrim.data.clips.video_folder import open_sorted_clips
from vitrim.data.source import DataSource, Spec, size_notes


@dataclass(frozen=True)
class VideoSet:
    """A published data set of clips."""

    name: str
    classes: int
    sampling: ClipSampling
    published: Mapping[str, int] = field(default_factory=dict)


DENSE = ClipSampling(frames=8, stride=16, views=3, crops=1, augment="k400")
SETS = {
    known.name: known
    for known in (
        VideoSet("k400", 400, DENSE),
        VideoSet(
            "ssv2",
            174,
            ClipSampling(frames=8, stride=0, views=1, crops=3, augment="ssv2"),
            {"train": 168_913, "val": 24_777},
        ),
        VideoSet("ucf101", 101, DENSE),
        VideoSet("hmdb51", 51, DENSE),
    )
}


def open_known(known: VideoSet, spec: Spec) -> DataSource:
    place = spec.rooted(spec.rest) if spec.rest else spec.root
    if place is None:
        raise ValueError(f"{known.name} needs a place: write {known.name}:FOLDER, or give the root")
    if not place.exists():
        raise FileNotFoundError(f"there is no {place}; {known.name} takes a folder or a list file")
    file = place if place.is_file() else _train_list(place, known.name)
    if file is None:
        data = open_sorted_clips(spec, place, known.sampling)
        if len(data.classes) != known.classes:
            note = f"{len(data.classes)} class folders where {known.name} has {known.classes} classes"
            return with_usual(data, (note,), known.published)
        return with_usual(data, (), known.published)
    data = open_list(spec, file, known.sampling, known.classes)
    return with_usual(data, size_notes(data.splits, known.published, known.name), known.published)


def _train_list(folder: Path, name: str) -> Path | None:
    names = [f"{start}train{ending}" for start in ("", f"{name}_") for ending in (".csv", ".txt")]
    return next((folder / name for name in names if (folder / name).is_file()), None)


OPENERS = {name: partial(open_known, known) for name, known in SETS.items()}
