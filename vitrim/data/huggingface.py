"""hf:OWNER/NAME or hf:FOLDER: a data set of the Hugging Face Hub, or one that lies on disk, by `datasets`.

Needs the extra: pip install 'vitrim[hf]'. From the Hub, only what is in the local cache is used unless
download is asked for. FOLDER is what save_to_disk wrote, or has Parquet files, or images in class folders.
The columns of images and labels are found by their types; image=COLUMN and label=COLUMN choose. config=NAME
and revision=NAME go to the Hub; train=SPLIT, val=SPLIT and test=SPLIT say which split is which. One piece is
split 70 / 10 / 20 per class by `seed`; where there is no val, val=0.1 holds out a share of train.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitrim.data.class_names import numbered
from vitrim.data.huggingface_columns import FromHub, image_column, label_column
from vitrim.data.source import DataSource, Spec, Split, with_trainval
from vitrim.data.splitting import hold_out, split_whole

USUAL = {"train": ("train",), "val": ("validation", "val", "valid", "dev"), "test": ("test",)}


def open_huggingface(spec: Spec) -> DataSource:
    spec.allow("config", "revision", "image", "label", "train", "val", "test", "seed")
    if not spec.rest:
        raise ValueError("hf needs a name: write hf:OWNER/NAME, or hf:FOLDER for one on disk")
    parts = _load(spec)
    named = _named_splits(spec, parts)
    features = next(iter(named.values())).features
    image, label = image_column(spec, features), label_column(spec, features)
    marks = {
        name: ["" if mark is None else str(mark) for mark in part[label]] for name, part in named.items()
    }
    classes = tuple(getattr(features[label], "names", None) or ())
    number = {str(index): index for index in range(len(classes))}
    if not classes:
        number = numbered(mark for part in marks.values() for mark in part if mark)
        classes = tuple(number)
    reader, splits, notes = FromHub(named, image, spec.rest), {}, []
    for name, part in marks.items():
        labels = _labels(f"{name} of {spec}", part, number)
        if labels is None:
            notes.append(f"{name} comes without labels and is left out")
        else:
            splits[name] = Split(reader, [f"{name}/{place}" for place in range(len(part))], labels)
    return _finish(spec, splits, classes, notes)


def open_images(spec: Spec) -> tuple[FromHub, dict[str, int]]:
    """Images whose labels do not matter, or are not there: a reader of "SPLIT/ROW", and the rows of each
    split; of the one that split=SPLIT names, or of all."""
    spec.allow("config", "revision", "image", "split")
    if not spec.rest:
        raise ValueError("hf needs a name: write hf:OWNER/NAME, or hf:FOLDER for one on disk")
    parts = _load(spec)
    asked = spec.options.get("split")
    if asked is not None and asked not in parts:
        raise ValueError(f"{spec.rest} has no split {asked!r}; it has: {', '.join(parts)}")
    chosen = parts if asked is None else {asked: parts[asked]}
    column = image_column(spec, next(iter(chosen.values())).features)
    return FromHub(chosen, column, spec.rest), {name: len(part) for name, part in chosen.items()}


def _labels(where: str, marks: Sequence[str], number: Mapping[str, int]) -> list[int] | None:
    """The class numbers of a split; None where no image has one, as in the test splits of competitions."""
    bad = [place for place, mark in enumerate(marks) if mark not in number]
    if len(bad) == len(marks):
        return None
    if bad:
        raise ValueError(
            f"image {bad[0]} of {where} has label {marks[bad[0]] or None}, which is none of the "
            f"{len(number)} classes"
        )
    return [number[mark] for mark in marks]


def _finish(spec: Spec, splits: dict[str, Split], classes: tuple[str, ...], notes: list[str]) -> DataSource:
    seed = spec.integer("seed", spec.seed)
    if "train" not in splits:
        raise ValueError(f"{spec} has no labelled training images, only: {', '.join(splits) or 'nothing'}")
    if set(splits) == {"train"} and "val" not in spec.options:
        found = split_whole(splits["train"], splits["train"].names, classes, seed)
        notes = [*notes, f"every class split 70 / 10 / 20 with seed {seed}"]
        opened = spec.with_options(seed=seed)
    else:
        held = _is_share(spec.options.get("val", ""))
        without = {key: value for key, value in spec.options.items() if key != "val" or held}
        found = hold_out(replace(spec, options=without), splits)
        opened = spec.with_options(seed=seed) if held else spec
    return DataSource(str(opened), classes, with_trainval(found), tuple(notes))


def _load(spec: Spec) -> Mapping[str, Any]:
    """The splits by their own names."""
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            "hf reads data with the library `datasets`, which is not installed; pip install 'vitrim[hf]'"
        ) from error
    folder = spec.rooted(spec.rest)
    config, revision = spec.options.get("config"), spec.options.get("revision")
    try:
        if folder.is_dir() and _written_by_save_to_disk(folder):
            found = datasets.load_from_disk(str(folder))
        elif folder.is_dir():
            found = datasets.load_dataset(str(folder), name=config)
        else:
            _check_name(spec, folder)
            with _network(spec.download):
                found = datasets.load_dataset(spec.rest, name=config, revision=revision)
    except Exception as error:  # the library and the file formats below it raise dozens of kinds
        raise _refusal(spec, folder, error) from error
    return found if isinstance(found, Mapping) else {"train": found}


def _written_by_save_to_disk(folder: Path) -> bool:
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def _check_name(spec: Spec, folder: Path) -> None:
    parts = spec.rest.split("/")
    if len(parts) > 2 or not all(parts) or parts[0].startswith((".", "~")):
        raise FileNotFoundError(f"there is no folder {folder}, and a name on the Hub is OWNER/NAME")


@contextmanager
def _network(allowed: bool) -> Iterator[None]:
    """Keep the libraries off the network, whatever the environment says, unless it is allowed."""
    import datasets
    import huggingface_hub.constants

    places = (datasets.config, huggingface_hub.constants)
    before = [place.HF_HUB_OFFLINE for place in places]
    try:
        for place, was in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = was if allowed else True  # type: ignore[attr-defined]
        yield
    finally:
        for place, was in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = was  # type: ignore[attr-defined]


def _refusal(spec: Spec, folder: Path, error: Exception) -> Exception:
    reason = " ".join(str(error).split())[:200]
    if isinstance(error, FileNotFoundError) and "a name on the Hub" in reason:
        return error
    if folder.is_dir():
        return ValueError(f"`datasets` cannot open the folder {folder}: {reason}")
    if spec.download:
        return FileNotFoundError(f"{spec.rest} could not be fetched from the Hub: {reason}")
    return FileNotFoundError(
        f"{spec.rest} is neither a folder nor in the local cache of `datasets`; --download fetches it "
        f"from the Hub ({reason})"
    )


def _named_splits(spec: Spec, parts: Mapping[str, Any]) -> dict[str, Any]:
    """The splits by our names; val=0.1 is a share to hold out, any other val= the name of a split."""
    there = ", ".join(parts)
    named: dict[str, Any] = {}
    for ours, usual in USUAL.items():
        asked = spec.options.get(ours)
        if ours == "val" and asked is not None and _is_share(asked):
            continue
        if asked is not None and asked not in parts:
            raise ValueError(f"{spec.rest} has no split {asked!r}; it has: {there}")
        found = asked or next((name for name in usual if name in parts), None)
        if found is not None:
            named[ours] = parts[found]
    if not named:
        raise ValueError(f"{spec.rest} has the splits {there}; say which to use: train=SPLIT, test=SPLIT")
    return named


def _is_share(text: str) -> bool:
    """Whether a val= is a share to hold out, and not the name of a split."""
    return text.replace(".", "", 1).isdigit()
