"""What a sweep file says: which data, recipes and seeds, and the settings all runs share.

    data: [vtab:eurosat, vtab:dsprites_loc]
    root: /data                        # paths count from where the command runs, as on the command line
    model: vit_small_patch16_224
    recipes:
      - linear
      - name: thinned where it matters
        recipe: tr-pts                 # whose training settings it takes
        methods: ["FisherDelta(layer='block', most=4)", "EViT(keep=0.95, at='dense')"]
        training: {lr: 1e-3}
    seeds: [0, 1]
    training: {epochs: 20}
    out: runs/first

Everything is checked here and refused in one sentence, before anything runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from vitrim.checks import check_yaml, did_you_mean
from vitrim.settings.training import Training
from vitrim.video.settings import parse_video

MOST = 1_000  # data sets, recipes, seeds, methods of a recipe
SHOWN = 200  # characters of a wrong value in a sentence
TRAINING_NAMES = tuple(setting.name for setting in fields(Training))


@dataclass(frozen=True)
class Entry:
    """One row of the comparison: a recipe, or methods of one's own, perhaps with settings of its own."""

    name: str
    recipe: str | None = None
    methods: tuple[str, ...] | None = None
    protocol: str | None = None
    video: str | None = None
    training: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepFile:
    """A sweep, as its file says it."""

    data: tuple[str, ...]
    recipes: tuple[Entry, ...]
    seeds: tuple[int, ...] = (42,)
    out: str | None = None
    root: str | None = None
    model: str | None = None
    weights: str | None = None
    pretrained: bool = False
    image_size: int | tuple[int, int] | None = None
    in_chans: int | None = None
    patch_size: int | tuple[int, int] | None = None
    video: str | None = None
    protocol: str | None = None
    per_task: bool | None = None
    training: Mapping[str, object] = field(default_factory=dict)
    slurm: Mapping[str, object] = field(default_factory=dict)


KEYS = tuple(setting.name for setting in fields(SweepFile))
ENTRY_KEYS = tuple(setting.name for setting in fields(Entry))
TEXTS = ("out", "root", "model", "weights", "protocol", "video")


def read_sweep(path: str | Path) -> SweepFile:
    """Read and check a sweep file."""
    return make_sweep(read_yaml(Path(path)), str(path))


def make_sweep(content: object, where: str = "the sweep") -> SweepFile:
    """The same from values already read."""
    found = _mapping(content, where, KEYS)
    for key in ("data", "recipes"):
        if key not in found:
            raise ValueError(
                f"{where} has no {key!r}; it needs a list of {'data specs' if key == 'data' else key}"
            )
    for key in TEXTS:
        if found.get(key) is not None and not isinstance(found[key], str):
            raise ValueError(f"{where}: {key} must be text, got {found[key]!r}")
    if found.get("video") is not None:
        found["video"] = _video(found["video"], where)
    for key in ("pretrained", "per_task"):
        if not isinstance(found.get(key), bool | None):
            raise ValueError(f"{where}: {key} must be true or false, got {found[key]!r}")
    for key in ("image_size", "patch_size"):
        if found.get(key) is not None:
            found[key] = _pixels(key, found[key], where)
    if found.get("in_chans") is not None and not (type(found["in_chans"]) is int and found["in_chans"] > 0):
        raise ValueError(f"{where}: in_chans must be a number of channels, got {found['in_chans']!r}")
    for key in ("training", "slurm"):
        found[key] = _mapping(
            found.get(key) or {}, f"{where}, {key}", TRAINING_NAMES if key == "training" else None
        )
    _leave_to_the_grid(found["training"], f"{where}, training")
    found["data"] = tuple(_texts(found["data"], "data", where))
    found["seeds"] = _seeds(found.get("seeds", [42]), where)
    found["recipes"] = _entries(found["recipes"], where)
    return SweepFile(**{key: value for key, value in found.items() if value is not None})


def read_yaml(path: Path) -> object:
    """A YAML file, in which 1e-3 is a number, as people expect."""
    import yaml

    class Loader(yaml.SafeLoader):
        """PyYAML's, for which a number needs a dot before its exponent."""

    number = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.[\d_]+)[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789."))
    try:
        text = path.read_text(encoding="utf-8")
        check_yaml(text, str(path))
        return yaml.load(text, Loader)  # a SafeLoader
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {str(path)!r}; give the YAML file of a sweep") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file; give the YAML file of a sweep") from None
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read as YAML: {said}") from None


def _mapping(content: object, where: str, known: Sequence[str] | None) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} must hold names with values (key: value), got {content!r}")
    for key in content:
        if known is not None and key not in known:
            raise ValueError(f"{where}: no key {key!r}; {did_you_mean(str(key), known)}")
    return dict(content)


def _leave_to_the_grid(training: Mapping[str, object], where: str) -> None:
    if "seed" in training:
        raise ValueError(f"{where}: seed is given by the list seeds; write seeds: [{training['seed']!r}]")


def _texts(given: object, key: str, where: str) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise ValueError(f"{where}: {key} must be a list of at least one text, got {repr(given)[:SHOWN]}")
    _refuse_many(texts, key, where)
    _refuse_twice(texts, key, where)
    return texts


def _seeds(given: object, where: str) -> tuple[int, ...]:
    seeds = given if isinstance(given, list) else [given]
    whole = all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds)
    if not seeds or not whole:
        raise ValueError(
            f"{where}: seeds must be a list of whole numbers of at least 0, got {repr(given)[:SHOWN]}"
        )
    _refuse_many(seeds, "seeds", where)
    _refuse_twice(seeds, "seeds", where)
    return tuple(seeds)


def _refuse_many(values: Sequence[object], key: str, where: str) -> None:
    """Nobody trains so many runs; what was meant is something else."""
    if len(values) > MOST:
        raise ValueError(f"{where}: {key} are {len(values):,}, but a sweep takes at most {MOST:,} of them")


def _pixels(key: str, given: Any, where: str) -> int | tuple[int, int]:
    sides = given if isinstance(given, list) else [given]
    if not all(isinstance(side, int) and side > 0 for side in sides) or len(sides) > 2 or not sides:
        raise ValueError(f"{where}: {key} must be a number of pixels or [height, width], got {given!r}")
    return (sides[0], sides[1]) if len(sides) == 2 else sides[0]


def _video(given: str, where: str) -> str:
    try:
        return repr(parse_video(given))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _entries(given: object, where: str) -> tuple[Entry, ...]:
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"{where}: recipes must be a list of at least one recipe, got {repr(given)[:SHOWN]}")
    _refuse_many(listed, "recipes", where)
    entries = tuple(_entry(each, where) for each in listed)
    _refuse_twice([entry.name for entry in entries], "recipes", where)
    return entries


def _entry(given: object, where: str) -> Entry:
    if isinstance(given, str):
        return Entry(given, recipe=given)
    found = _mapping(given, f"{where}, recipes", ENTRY_KEYS)
    name = found.get("name", found.get("recipe"))
    if not isinstance(name, str) or not name:
        raise ValueError(f"{where}: every entry of recipes needs a name, got {given!r}")
    where = f"{where}, recipe {name!r}"
    if found.get("recipe") is None and found.get("methods") is None:
        raise ValueError(f"{where} names neither a recipe nor methods; give one of them")
    methods = found.get("methods")
    if isinstance(methods, str):
        methods = [methods]
    if isinstance(methods, list):
        _refuse_many(methods, f"methods of {name}", where)
    if methods is not None and not (isinstance(methods, list) and all(isinstance(m, str) for m in methods)):
        raise ValueError(f"{where}: methods must be a list of texts, got {methods!r}")
    for key in ("recipe", "protocol", "video"):
        if not isinstance(found.get(key), str | None):
            raise ValueError(f"{where}: {key} must be text, got {found[key]!r}")
    video = None if found.get("video") is None else _video(found["video"], where)
    training = _mapping(found.get("training") or {}, f"{where}, training", TRAINING_NAMES)
    _leave_to_the_grid(training, f"{where}, training")
    methods = None if methods is None else tuple(methods)
    return Entry(name, found.get("recipe"), methods, found.get("protocol"), video, training)


def _refuse_twice(values: Sequence[object], key: str, where: str) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{where}: {key} has {value!r} twice; every run would be made twice")
