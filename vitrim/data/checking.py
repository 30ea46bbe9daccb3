"""Looking a data set over: what its lists say about themselves, and whether every image can be decoded."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import islice

from PIL import Image

from vitrim.data.bands import Bands
from vitrim.data.clips.reader import ClipReader
from vitrim.data.images import ImageError, read_image, undeclared_brightest
from vitrim.data.source import DataSource, Split
from vitrim.data.splitting import some

AHEAD = 64  # images in memory at a time
SAMPLE = 64  # images of a split whose sizes are looked at
PEEKED = 8  # images whose depth is looked at whenever data are opened
DARK = 16  # of 255: an image with nothing brighter is nearly black, as 12 bits in a 16-bit file are
FLAT = 2  # levels between the darkest and the brightest of every channel of a nearly constant image


@dataclass(frozen=True)
class Decoded:
    """What came of decoding images."""

    images: int
    broken: tuple[str, ...]  # one sentence for each
    sizes: Counter[tuple[int, int]]  # width, height
    repeated: tuple[tuple[str, str], ...]  # an image of train or val, and its equal in test
    dark: tuple[str, ...] = ()  # nearly black images
    flat: tuple[str, ...] = ()  # nearly constant ones


def findings(data: DataSource) -> tuple[list[str], list[str]]:
    """What is wrong, and what is worth knowing, by names and labels alone."""
    wrong: list[str] = []
    worth = list(data.notes)
    for name, split in data.splits.items() if data.task == "classify" else ():
        if split.labels and not 0 <= min(split.labels) <= max(split.labels) < len(data.classes):
            wrong.append(
                f"{name} has labels from {min(split.labels)} to {max(split.labels)}, but there are "
                f"{len(data.classes)} classes"
            )
            continue
        absent = sorted(set(range(len(data.classes))) - set(split.labels))
        if absent and name in ("train", "trainval", "test"):
            names, one = some([data.classes[label] for label in absent]), data.called[:-1]
            worth.append(f"{name} has no {one} of {len(absent)} of the {len(data.classes)} classes: {names}")
    wrong += _trainval(data)
    return wrong, worth + _in_two_splits(data)


def _trainval(data: DataSource) -> list[str]:
    if not {"train", "val", "trainval"} <= set(data.splits):
        return []
    train, val, both = (data.splits[name] for name in ("train", "val", "trainval"))
    if len(both) != len(train) + len(val):
        return [
            f"trainval has {len(both):,} {data.called}, but train and val together {len(train) + len(val):,}"
        ]
    if both.labels[: len(train)] != train.labels and sorted(both.labels) != sorted(train.labels + val.labels):
        return ["trainval carries other labels than train and val together"]
    return []


def _in_two_splits(data: DataSource) -> list[str]:
    found = []
    for first, second in (("train", "val"), ("train", "test"), ("val", "test"), ("trainval", "test")):
        if first in data.splits and second in data.splits:
            both = sorted(set(data.splits[first].names) & set(data.splits[second].names))
            if both and not (first == "trainval" and "train" in data.splits):
                found.append(f"{len(both):,} {data.called} are in {first} and in {second}: {some(both)}")
    return found


def decode(data: DataSource, every: bool, tick: Callable[[], object] = lambda: None) -> Decoded:
    """Decode every image, or a sample of each split. Calls `tick` after each."""
    sizes: Counter[tuple[int, int]] = Counter()
    broken: list[str] = []
    seen: dict[bytes, str] = {}
    repeated = []
    dark: list[str] = []
    flat: list[str] = []
    count = 0
    for name, place in _places(data, every):
        count += 1
        tick()
        if isinstance(place, ImageError):
            broken.append(str(place))
            continue
        size, digest, image, levels = place
        sizes[size] += 1
        if max(high for _, high in levels) <= DARK:
            dark.append(image)
        if all(high - low <= FLAT for low, high in levels):
            flat.append(image)
        if name == "test" and seen.get(digest, image) != image:
            repeated.append((seen[digest], image))
        elif name != "test":
            seen[digest] = image
    return Decoded(count, tuple(broken), sizes, tuple(repeated), tuple(dark), tuple(flat))


Levels = tuple[tuple[int, int], ...]  # the lowest and the highest of every channel
Look = tuple[tuple[int, int], bytes, str, Levels] | ImageError


def _places(data: DataSource, every: bool) -> Iterator[tuple[str, Look]]:
    """Every image once, in the order of the splits, decoded by several threads ahead of the reader."""
    wanted: dict[tuple[int, str], tuple[str, Split]] = {}
    for name in ("train", "val", "trainval", "test"):
        split = data.splits.get(name)
        if split is not None and not (name == "trainval" and _repeats(split, data)):
            step = 1 if every else max(1, len(split) // SAMPLE)
            for image in split.names[::step]:
                wanted.setdefault((id(split.read), image), (name, split))
    with ThreadPoolExecutor() as threads:
        jobs = iter([(name, split, image) for (_, image), (name, split) in wanted.items()])
        while batch := list(islice(jobs, AHEAD)):
            names = [image for _, _, image in batch]
            looks = threads.map(_look, [split for _, split, _ in batch], names, [every] * len(batch))
            for (name, _, _), look in zip(batch, looks, strict=True):
                yield name, look


def _repeats(trainval: Split, data: DataSource) -> bool:
    """Whether a split is only the training and validation images again, and not copies of them."""
    parts = [data.splits[name] for name in ("train", "val") if name in data.splits]
    return list(trainval.names) == [image for part in parts for image in part.names]


def _look(split: Split, name: str, every: bool = True) -> Look:
    """One image; of a clip every frame where all is looked at, else the middle one."""
    try:
        if every and isinstance(split.read, ClipReader):
            return _look_through(split.read, name)
        image = split.read(name)
        picture = image.shown() if isinstance(image, Bands) else image
    except ImageError as error:
        return error
    pixels = blake2b(image.tobytes(), digest_size=16, salt=repr(image.size).encode()[:16]).digest()
    return image.size, pixels, name, tuple(map(_ends, picture.split()))


def _look_through(reader: ClipReader, name: str) -> Look:
    digest, levels, size = blake2b(digest_size=16), None, (0, 0)
    for frame in reader.every_frame(name):
        size = frame.size
        digest.update(frame.tobytes())
        found = tuple(map(_ends, frame.split()))
        both = zip(levels or found, found, strict=True)
        levels = tuple((min(a[0], b[0]), max(a[1], b[1])) for a, b in both)
    digest.update(repr(size).encode())
    return size, digest.digest(), name, levels or ()


def _ends(channel: Image.Image) -> tuple[int, int]:
    low, high = channel.getextrema()
    return low, high  # type: ignore[return-value]


def count_jobs(data: DataSource, every: bool) -> int:
    """How many images `decode` will look at, at most."""
    return sum(
        len(split.names[:: 1 if every else max(1, len(split) // SAMPLE)]) for split in data.splits.values()
    )


def with_depth_note(data: DataSource) -> DataSource:
    """The same data, with a note where 16-bit grey seems to hold fewer bits: nothing in the files says so,
    and training on them would go on with nearly black images. A few files are looked at.
    """
    split = next(iter(data.splits.values()), None)
    if split is None or split.read is not read_image or not len(split):
        return data
    peeked = split.names[:: max(1, len(split) // PEEKED)][:PEEKED]
    found = [brightest for name in peeked if (brightest := undeclared_brightest(name)) is not None]
    if 2 * len(found) <= len(peeked):
        return data
    bits = max(found).bit_length()
    note = (
        f"16-bit grey whose values stay below {2**bits:,} ({len(found)} of {len(peeked)} images "
        "looked at): it looks "
        f"like {bits}-bit data and comes out nearly black; multiply the values by "
        f"{2 ** (16 - bits)}, or declare "
        "their range (docs/data.md, Images)"
    )
    return replace(data, notes=(*data.notes, note)) if note not in data.notes else data
