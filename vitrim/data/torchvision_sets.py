"""torchvision:NAME with a root: a data set of torchvision, from the files its own class reads or downloads.

CIFAR10, CIFAR100, SVHN, Food101, Flowers102, FGVCAircraft, StanfordCars, DTD, OxfordIIITPet, EuroSAT and the
others of torchvision_table.py. The root is what torchvision calls root. Sets that come in one piece are split
70 / 10 / 20 per class by `seed`; where there is no val, val=0.1 holds out a share of the training images.
Other options go to torchvision's class as they are: torchvision:DTD?partition=2.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from vitrim.data.band_files import picture_bands
from vitrim.data.choices import choose
from vitrim.data.images import AS_RGB, ImageError, Picture, read_image, to_rgb
from vitrim.data.places import plain
from vitrim.data.source import DataSource, Spec, Split, size_notes, with_trainval
from vitrim.data.splitting import hold_out, split_whole
from vitrim.data.torchvision_table import NAMES, SETS, Arguments

PATHS = ("_image_files", "_images", "_samples", "samples", "imgs")  # where torchvision keeps the files
LABELS = ("targets", "labels", "_labels", "y")


def open_torchvision(spec: Spec) -> DataSource:
    if not spec.rest:
        raise ValueError(f"torchvision needs a name: write torchvision:NAME with one of {', '.join(SETS)}")
    name = choose("torchvision data set", plain(spec.rest), NAMES)
    known = SETS[name]
    spec.allow(*known.options, "val", "seed")
    if spec.root is None:
        raise ValueError(f"torchvision:{name} needs a root: the folder with {known.files}")
    options = {key: _value(spec.options[key]) for key in known.options if key in spec.options}
    opened = {}
    arguments = {split: {**part, **options} for split, part in known.splits.items()}
    for split, part in arguments.items():
        if spec.download:
            _open(name, spec, part)
        opened[split] = _kept_open(name, str(spec.root), tuple(part.items()))
    reader = FromTorchvision(name, str(spec.root), arguments)
    splits = {split: _split(split, dataset, reader) for split, dataset in opened.items()}
    first = next(iter(opened.values()))
    classes = _classes(first, max(max(split.labels) for split in splits.values()) + 1)
    asked = Spec("torchvision", name, spec.options, spec.root, spec.seed)
    return _in_one_piece(asked, splits[""], classes) if "" in splits else _finish(asked, splits, classes)


def _in_one_piece(spec: Spec, whole: Split, classes: tuple[str, ...]) -> DataSource:
    if "val" in spec.options:
        raise ValueError(f"torchvision:{spec.rest} is split 70 / 10 / 20 by a seed; leave val out")
    seed = spec.integer("seed", spec.seed)
    found = split_whole(whole, [Path(name).name for name in whole.names], classes, seed)
    note = f"every class split 70 / 10 / 20 with seed {seed}"
    return DataSource(str(spec.with_options(seed=seed)), classes, with_trainval(found), (note,))


def _finish(spec: Spec, splits: Mapping[str, Split], classes: tuple[str, ...]) -> DataSource:
    found = with_trainval(hold_out(spec, splits))
    sizes = dict(SETS[spec.rest].sizes)
    if "val" in spec.options:
        spec = spec.with_options(seed=spec.integer("seed", spec.seed))
        sizes["trainval"] = sizes.pop("train", len(found["trainval"]))
    return DataSource(str(spec), classes, found, tuple(size_notes(found, sizes, spec.rest)), sizes)


def _value(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _open(name: str, spec: Spec, arguments: Arguments) -> Any:
    """torchvision's data set, its errors as one sentence."""
    from torchvision import datasets

    known, root = SETS[name], str(spec.root)
    if spec.download and not known.download:
        raise ValueError(
            f"torchvision cannot download {name}; put {known.files} into {root} and leave download out"
        )
    extra = {"download": True} if spec.download else {}
    maker: Callable[..., Any] = getattr(datasets, name)
    try:
        with redirect_stdout(io.StringIO()):  # some classes report that files are there already
            return maker(root, **arguments, **extra)
    except (RuntimeError, FileNotFoundError, NotADirectoryError) as error:
        hint = "--download fetches it" if known.download else "torchvision cannot download it"
        raise FileNotFoundError(
            f"torchvision:{name} is not in {root}, or not whole: it expects {known.files} there; {hint} "
            f"({' '.join(str(error).split())[:160]})"
        ) from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"torchvision does not open {name} with {dict(arguments)}: {error}") from error


def _split(split: str, dataset: Any, reader: "FromTorchvision") -> Split:
    paths, labels = _paths(dataset), _labels(dataset)
    if paths is not None:
        return Split(read_image, paths, labels)
    return Split(reader, [f"{split}/{index}" for index in range(len(labels))], labels)


def _paths(dataset: Any) -> list[str] | None:
    """The image files where the data set consists of files; None for arrays."""
    for attribute in PATHS:
        found = getattr(dataset, attribute, None)
        if found:
            return [str(entry[0] if isinstance(entry, tuple) else entry) for entry in found]
    return None


def _labels(dataset: Any) -> Sequence[int]:
    for attribute in LABELS:
        found = getattr(dataset, attribute, None)
        if found is not None and len(found) == len(dataset):
            return [int(label) for label in found]
    for attribute in PATHS:
        found = getattr(dataset, attribute, None)
        if found and isinstance(found[0], tuple):
            return [int(entry[1]) for entry in found]
    return [int(dataset[index][1]) for index in range(len(dataset))]


def _classes(dataset: Any, count: int) -> tuple[str, ...]:
    for attribute in ("classes", "categories"):
        names = getattr(dataset, attribute, None)
        if names is not None and len(names) >= count:
            return tuple(name if isinstance(name, str) else ", ".join(name) for name in names)
    return tuple(str(number) for number in range(count))


@dataclass(frozen=True)
class FromTorchvision:
    """Reads image "train/3" of a data set in memory; every process opens its own copy once."""

    dataset: str
    root: str
    splits: Mapping[str, Arguments]

    def __call__(self, name: str, _at_least: int | None = None, channels: int = 3) -> Picture:
        split, _, index = name.rpartition("/")
        try:
            image = _kept_open(self.dataset, self.root, tuple(self.splits[split].items()))[int(index)][0]
        except Exception as error:
            raise ImageError(
                f"image {name} of torchvision:{self.dataset} cannot be read ({error})"
            ) from error
        called = f"image {name} of torchvision:{self.dataset}"
        return to_rgb(image, called) if channels in AS_RGB else picture_bands(image, called)


@lru_cache(maxsize=4)
def _kept_open(name: str, root: str, arguments: tuple[tuple[str, Any], ...]) -> Any:
    return _open(name, Spec("torchvision", name, root=Path(root)), dict(arguments))
