"""What a kind of data is asked for (Spec) and what it gives back (DataSource: named Splits)."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from vitrim.data.images import Picture

if TYPE_CHECKING:
    from vitrim.data.clips.samples import ClipSamples
    from vitrim.data.clips.sampling import ClipSampling


@dataclass(frozen=True)
class Spec:
    """A parsed "kind:rest?key=value&key=value", which `str()` writes again, and what came beside it."""

    kind: str
    rest: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    root: Path | None = None  # where the files are, or what a relative path starts from
    seed: int = 0  # for data that has to be split
    download: bool = False  # whether missing files may be fetched

    def __str__(self) -> str:
        options = "&".join(f"{key}={value}" for key, value in self.options.items())
        return self.kind + (f":{self.rest}" if self.rest else "") + (f"?{options}" if options else "")

    def allow(self, *keys: str) -> None:
        """Refuse options this kind does not have."""
        for key in self.options:
            if key not in keys:
                offer = f"it takes {', '.join(keys)}" if keys else "it takes none"
                raise ValueError(f"{self.kind} has no option {key!r}; {offer}")

    def integer(self, key: str, default: int) -> int:
        """The option as an integer, or the default where it is not given."""
        text = self.options.get(key, str(default))
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"{self.kind} option {key}={text} is not a whole number") from None

    def share(self, key: str) -> float | None:
        """The option as a share between 0 and 1; None where it is not given."""
        if key not in self.options:
            return None
        try:
            share = float(self.options[key])
        except ValueError:
            share = -1.0
        if not 0 < share < 1:
            raise ValueError(
                f"{self.kind} option {key}={self.options[key]} is not a share between 0 and 1, such as 0.1"
            )
        return share

    def with_options(self, **options: object) -> "Spec":
        """The same spec with options set: what the splits depended on is written into it."""
        return replace(self, options={**self.options, **{key: str(value) for key, value in options.items()}})

    def rooted(self, path: str) -> Path:
        """A path of the spec: "~" is the home folder, and a relative one starts from the root."""
        found = Path(path).expanduser()
        return found if self.root is None else self.root / found


class Reader(Protocol):
    """Opens the image of one name. Must be picklable: loader processes get a copy."""

    def __call__(self, name: str, at_least: int | None = None, channels: int = 3, /) -> Picture: ...


class ReadsClips(ABC):
    """A reader of videos: it also says which frames of one become samples, and makes them."""

    sampling: "ClipSampling"

    @abstractmethod
    def samples(self, split: "Split", transform: Callable[[Any], Any]) -> "ClipSamples":
        """Samples for a loader. An `ImageTransform` gives all views for evaluation, anything else one clip
        for training: see clips/samples.py.
        """


class Split(Dataset[tuple[Picture, Any]]):
    """`split[i]` is (PIL RGB image or Bands, label). `names` says where each image came from: a path, or an
    index. A label is a class number, or a tuple of numbers where the task is another one than to tell classes
    apart.
    """

    def __init__(self, read: Reader, names: Sequence[str], labels: Sequence[Any]) -> None:
        if len(names) != len(labels):
            raise ValueError(
                f"a split needs one label per image but has {len(names)} images, {len(labels)} labels"
            )
        self.read = read
        self.names = tuple(names)
        self.labels = tuple(labels)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Picture, Any]:
        return self.read(self.names[index]), self.labels[index]

    def with_transform(self, transform: Callable[[Any], Tensor]) -> "TransformedSplit | ClipSamples":
        """Samples for a loader."""
        if isinstance(self.read, ReadsClips):
            return self.read.samples(self, transform)
        return TransformedSplit(self, transform)

    @property
    def clips(self) -> "ClipSampling | None":
        """How frames are chosen, where these are clips of videos."""
        return self.read.sampling if isinstance(self.read, ReadsClips) else None

    @property
    def called(self) -> str:
        """What the things in it are called in sentences."""
        return "images" if self.clips is None else "clips"


class TransformedSplit(Dataset[tuple[Tensor, Any]]):
    """A split whose images go through a transform: `[i]` is (tensor, label), ready for a DataLoader. A label
    of several numbers is a float32 tensor.
    """

    def __init__(self, split: Split, transform: Callable[[Any], Tensor]) -> None:
        from vitrim.data.transforms import (
            ImageTransform,  # imports timm, which reading lists must not wait for
        )

        self.split = split
        self.transform = transform
        self.wants = transform.wants if isinstance(transform, ImageTransform) else ()

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        image, label = self.split.read(self.split.names[index], *self.wants), self.split.labels[index]
        if isinstance(label, tuple):
            label = torch.tensor(label, dtype=torch.float32)
        return self.transform(image), label


@dataclass(frozen=True)
class DataSource:
    """An opened data set. `spec` opens the same splits again (a seed that mattered is written into it)."""

    spec: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    notes: tuple[str, ...] = ()  # what a reader of results should know: how it was split, odd sizes
    published: Mapping[str, int] = field(default_factory=dict)  # images per split, as the publication says
    task: str = "classify"  # or multilabel, regress: then `classes` are the names of the labels or targets

    @property
    def clips(self) -> "ClipSampling | None":
        """How frames are chosen, where these are clips of videos: frames, stride, views, crops."""
        return next((split.clips for split in self.splits.values()), None)

    @property
    def called(self) -> str:
        """What the things in it are called in sentences."""
        return "images" if self.clips is None else "clips"

    def split(self, name: str) -> Split:
        """`splits[name]`, or a sentence that lists the splits there are."""
        if name not in self.splits:
            raise ValueError(f"{self.spec} has no {name!r} split; it has: {', '.join(self.splits)}")
        return self.splits[name]


def with_trainval(splits: Mapping[str, Split]) -> dict[str, Split]:
    """The splits in their usual order, with "trainval" = train + val where it is not there yet."""
    found = dict(splits)
    train, val = found.get("train"), found.get("val")
    if "trainval" not in found and train is not None and val is not None and train.read == val.read:
        found["trainval"] = Split(train.read, train.names + val.names, train.labels + val.labels)
    return {name: found[name] for name in ("train", "val", "trainval", "test") if name in found}


def size_notes(splits: Mapping[str, Split], published: Mapping[str, int], of: str) -> list[str]:
    """What to know where splits have another size than the published ones."""
    return [
        f"{name} has {len(splits[name]):,} {splits[name].called} where {of} has {count:,}: "
        "results are not comparable with published ones"
        for name, count in published.items()
        if name in splits and len(splits[name]) != count
    ]


def describe(data: DataSource) -> str:
    """A few lines to print: classes, the size of each split, how many images its classes have, notes."""
    shown = data.classes if len(data.classes) <= 12 else (*data.classes[:10], "...", data.classes[-1])
    lines = [f"{data.spec}: {len(data.classes)} {OUTPUTS[data.task]} ({', '.join(shown)})"]
    for name, split in data.splits.items():
        lines.append(f"  {name:<8} {len(split):>7,} {data.called}, {_spread(data, split)}")
    return "\n".join([*lines, *(f"  {note}" for note in data.notes)])


OUTPUTS = {"classify": "classes", "multilabel": "labels", "regress": "targets"}


def label_counts(data: DataSource, split: Split) -> list[int]:
    """How many images of a split have each class or label; no meaning for targets that are numbers."""
    if data.task == "classify":
        found = Counter(split.labels)
        return [found[label] for label in range(len(data.classes))]
    return [sum(column) for column in zip(*split.labels, strict=True)]


def _spread(data: DataSource, split: Split) -> str:
    if data.task == "regress":
        columns = zip(data.classes, zip(*split.labels, strict=True), strict=True)
        return ", ".join(f"{name} from {min(column):g} to {max(column):g}" for name, column in columns)
    counts = label_counts(data, split)
    spread = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    return f"{spread} per {'class' if data.task == 'classify' else 'label'}"
