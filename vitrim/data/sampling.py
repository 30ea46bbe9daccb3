"""Few images per class, drawn by a seed; and the lists that say which, in NOAH's layout."""

import os
from pathlib import Path

from vitrim.data.source import DataSource, Split
from vitrim.data.splitting import by_class, part_of, shuffled, some


def few_shots(data: DataSource, shots: int, seed: int) -> DataSource:
    """`shots` training images of every class, without repetition; val and test stay whole.

    Of one seed, the images of fewer shots are among those of more. The draw depends on the seed and on the
    names of the images below their common folder, so it is the same on every machine.
    """
    if data.task != "classify":
        raise ValueError(f"{data.spec} is a {data.task} task without classes; shots are images per class")
    train = data.split("train")
    groups = by_class(train)
    small = [f"{data.classes[label]} ({len(group)})" for label, group in groups.items() if len(group) < shots]
    absent = [name for label, name in enumerate(data.classes) if label not in groups]
    if small or absent:
        few = some([*small, *(f"{name} (0)" for name in absent)])
        raise ValueError(f"{shots} shots need {shots} training images per class, too few in: {few}")
    keys = _below_common_folder(train)
    chosen: list[int] = []
    for group in groups.values():
        places = {keys[place]: place for place in group}
        chosen += [places[key] for key in shuffled(list(places), seed)[:shots]]
    splits = {"train": part_of(train, sorted(chosen))}
    splits |= {name: data.splits[name] for name in ("val", "test") if name in data.splits}
    note = f"train is {shots} images per class of {len(train):,} images, drawn with seed {seed}"
    spec = f"{data.spec} with {shots} shots, seed {seed}"
    return DataSource(spec, data.classes, splits, (*data.notes, note))


def _below_common_folder(split: Split) -> list[str]:
    common = os.path.commonpath(split.names)
    return [os.path.relpath(name, common) if common else name for name in split.names]


def write_lists(data: DataSource, shots: int, seed: int, folder: Path) -> list[Path]:
    """Write the splits as NOAH's lists below `folder`/annotations; lists that are there must say the same."""
    from vitrim.writing import write_whole, writing

    names = {"train": f"train_meta.list.num_shot_{shots}.seed_{seed}"}
    names |= {"val": "val_meta.list", "test": "test_meta.list"}
    texts = {
        folder / "annotations" / names[split]: "".join(
            f"{_relative(name, folder)} {label}\n"
            for name, label in zip(part.names, part.labels, strict=True)
        )
        for split, part in data.splits.items()
        if split in names
    }
    texts[folder / "annotations" / "classes.txt"] = "".join(f"{name}\n" for name in data.classes)
    for path, text in texts.items():
        if path.exists() and path.read_bytes() != text.encode():
            raise FileExistsError(f"{path} is there with other content; choose another folder for the lists")
    with writing(folder):
        (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        write_whole(path, text.encode())
    return list(texts)


def _relative(name: str, folder: Path) -> str:
    """The path of an image below the folder of the lists, or else its whole path."""
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"lists name image files, but {name!r} is none; use data that lies in folders")
    path, folder = path.absolute(), folder.absolute()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()
