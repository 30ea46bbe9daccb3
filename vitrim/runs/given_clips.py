"""What a user may hand over as clips to be named, and how a run chose frames from its own."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from vitrim.data.clips.sampling import OPTIONS, ClipSampling, sampling_of
from vitrim.data.clips.video_folder import CLIP_FILES, is_clip, walk_clips
from vitrim.data.images import MissingImageError
from vitrim.data.spec import parse_spec
from vitrim.runs.opening import model_file_of

TAKEN = "paths of video files, of folders of frames, of folders of clips, and lists of these"


def each_clip(clips: object, unread: Counter[str] | None = None) -> Iterator[tuple[str, Path]]:
    """Every clip given, folders replaced by the clips below them, a folder of frames being one."""
    things = [clips] if isinstance(clips, (str, os.PathLike)) else clips
    if not isinstance(things, Iterable):
        raise ValueError(f"clips cannot be {type(clips).__name__}; predict takes {TAKEN}")
    return _each(things, unread)


def _each(things: Iterable[object], unread: Counter[str] | None) -> Iterator[tuple[str, Path]]:
    none = True
    for thing in things:
        if not isinstance(thing, (str, os.PathLike)):
            raise ValueError(f"a clip cannot be {type(thing).__name__}; predict takes {TAKEN}")
        path = Path(thing)
        if not os.path.lexists(path):
            raise MissingImageError(f"there is no clip {path}")
        found = [path] if not path.is_dir() or is_clip(path) else walk_clips(path, unread)
        empty = True
        for clip in found:
            empty = none = False
            yield str(clip), clip
        if empty:
            raise FileNotFoundError(f"the folder {path} holds no clips ({', '.join(CLIP_FILES)})")
    if none:
        raise ValueError("no clips were given; name video files or a folder of them")


def stored_sampling(run: str | Path) -> ClipSampling:
    """How the data of a run or of a model file chose frames, all of which its spec says."""
    from vitrim.files.saving import read

    file = model_file_of(run)
    spec = read(file)[0].get("extra", {}).get("data")
    if not isinstance(spec, str) or not set(OPTIONS) <= set(parse_spec(spec).options):
        raise ValueError(
            f"{file} does not say how frames are chosen; give a run that was trained on clips, or "
            "clips=ClipSampling(...)"
        )
    return sampling_of(parse_spec(spec), ClipSampling())[1]
