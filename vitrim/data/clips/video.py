"""video:FILE.csv: clips listed one a line (path, label); lists of val and test lie beside it

    videos/abseiling one.mp4 0

FILE may end in .csv or .txt; comma or space is found line by line (or delimiter=comma, space, tab or
semicolon). Of three columns, columns=path,length,label says which are which. Paths are absolute, or start
from the list's folder, from the root, or from a folder in it that is called like the split. What is at a path
may be a video file, a folder of frames or a .npy array.

train.csv finds val.csv and test.csv beside it; others are named with val=FILE and test=FILE, or val=0.1 holds
out a share of train. A list without others is split 70 / 10 / 20 within each class by `seed`. classes=FILE
names the classes. How frames are chosen: frames=8, stride=0 (one of each of 8 equal segments), views=1,
crops=1, augment=run: see sampling.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vitrim.data.class_names import folder_names
from vitrim.data.clips.containers import ENDINGS, check_reader
from vitrim.data.clips.lists import columns_of, is_share, list_files, read_clip_list, separator_of
from vitrim.data.clips.reader import ClipReader
from vitrim.data.clips.sampling import OPTIONS, ClipSampling, sampling_of
from vitrim.data.lists import Rows, check_files, read_names
from vitrim.data.source import DataSource, Spec, Split, with_trainval
from vitrim.data.splitting import hold_out, split_whole

LIST_OPTIONS = (*OPTIONS, "columns", "delimiter", "val", "test", "classes", "seed")


def open_video(spec: Spec) -> DataSource:
    if not spec.rest:
        raise ValueError("video needs a list of clips: write video:FILE.csv")
    return open_list(spec, spec.rooted(spec.rest), ClipSampling())


def open_list(spec: Spec, file: Path, usual: ClipSampling, classes: int | None = None) -> DataSource:
    """Clips of a list file; `classes` is how many there are, where that is known."""
    spec.allow(*LIST_OPTIONS)
    if not file.is_file():
        what = "is a folder, not a file" if file.is_dir() else "is not there"
        raise FileNotFoundError(
            f"{file} {what}; {spec.kind} takes a list with a path and a label on each line"
        )
    spec, sampling = sampling_of(spec, usual)
    files = list_files(spec, file)
    columns, separator = columns_of(spec), separator_of(spec)
    rows = {split: read_clip_list(part, columns, separator) for split, part in files.items()}
    names = _class_names(spec, rows, classes)
    reader = ClipReader(sampling)
    splits = {split: _split(reader, spec, split, part) for split, part in rows.items()}
    check_decoder(splits)
    if len(splits) == 1 and "val" not in spec.options:
        seed = spec.integer("seed", spec.seed)
        found = split_whole(splits["train"], [row.path for row in rows["train"]], names, seed)
        note = f"every class split 70 / 10 / 20 with seed {seed}"
        return DataSource(str(spec.with_options(seed=seed)), names, with_trainval(found), (note,))
    if is_share(spec.options.get("val", "")):
        keys = [row.path for row in rows["train"]]
        spec = spec.with_options(seed=spec.integer("seed", spec.seed))
        splits = hold_out(spec, splits, keys)
    elif "seed" in spec.options:
        raise ValueError(f"{spec} comes split into {', '.join(splits)}: a seed has no effect, leave it out")
    beside = [f"{split} from {part.name}" for split, part in files.items() if split != "train"]
    return DataSource(str(spec), names, with_trainval(splits), (", ".join(beside),) if beside else ())


def check_decoder(splits: Mapping[str, Split]) -> None:
    """Refuse video files at once where nothing decodes them."""
    if any(name.lower().endswith(ENDINGS) for split in splits.values() for name in split.names):
        check_reader()


def _split(reader: ClipReader, spec: Spec, split: str, rows: Rows) -> Split:
    above = rows[0].file.parent
    roots = [] if spec.root is None else [spec.root, spec.root / split]
    places = [above, *roots, above / split]
    folder = next((place for place in places if (place / rows[0].path).exists()), None)
    if folder is None:
        where = " or ".join(str(place) for place in dict.fromkeys(places))
        raise FileNotFoundError(
            f"{rows[0].where}: there is no clip {rows[0].path} in {where}; paths start from the list's "
            "folder or from the root, and a third column is named with columns=path,length,label"
        )
    check_files(folder, rows)
    return Split(reader, [str(folder / row.path) for row in rows], [row.label for row in rows])


def _class_names(spec: Spec, rows: Mapping[str, Rows], classes: int | None) -> tuple[str, ...]:
    """From a file, else the folders that the clips lie in, else the numbers."""
    every = [row for part in rows.values() for row in part]
    highest = max(every, key=lambda row: row.label)
    count = classes or highest.label + 1
    if highest.label >= count:
        raise ValueError(f"{highest.where}: label {highest.label}, but {spec.kind} has {count} classes")
    if classes is None and count > len(every) * 100:
        raise ValueError(
            f"{highest.where}: label {highest.label} of {len(every):,} clips is no class number; classes are "
            "numbered from 0"
        )
    if count < 2:
        raise ValueError(f"{highest.file} has one class only; a classifier needs at least two")
    if "classes" in spec.options:
        return read_names(spec.rooted(spec.options["classes"]), count, str(highest.file))
    paths: Sequence[str] = [row.path for row in every]
    return folder_names(paths, [row.label for row in every], count) or tuple(map(str, range(count)))


def with_usual(data: DataSource, notes: Sequence[str], published: Mapping[str, int]) -> DataSource:
    """What a known data set adds to its lists."""
    return replace(data, notes=(*data.notes, *notes), published=published)
