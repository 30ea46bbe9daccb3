"""What a user may hand over as clips to be named, and how a run chose frames from its own."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from vitrim.data.clips.sampling import OPTIONS, ClipSampling, sampling_of
from vitrim.data.clips.video_folder import CLIP_FILES, is_clip, walk_clips
from vitrim.data.images import MissingImageError
from vitrim.data.spec import parse_spec
from vitrim.runs.image_lists import is_list, is_pattern, listed
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
        for path in _named(thing):
            for clip in _below(path, unread):
                none = False
                yield str(clip), clip
    if none:
        raise ValueError("no clips were given; name video files or a folder of them")


def _named(thing: str | os.PathLike[str]) -> Iterable[Path]:
    """The path itself, the lines of a list, or what matches a pattern."""
    path = Path(thing)
    if is_list(path):
        return listed(path)
    if not is_pattern(str(thing)):
        return [path]
    found = [Path(name) for name in sorted(glob.iglob(str(thing), recursive=True))]  # noqa: PTH207  of any root
    if not found:
        raise MissingImageError(f"no clip matches {str(thing)!r}")
    return [name for name in found if is_clip(name)]


def _below(path: Path, unread: Counter[str] | None) -> Iterator[Path]:
    if not os.path.lexists(path):
        raise MissingImageError(f"there is no clip {path}")
    if not path.is_dir() or is_clip(path):
        yield path
        return
    empty = True
    for clip in walk_clips(path, unread):
        empty = False
        yield clip
    if empty:
        raise FileNotFoundError(f"the folder {path} holds no clips ({', '.join(CLIP_FILES)})")


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
