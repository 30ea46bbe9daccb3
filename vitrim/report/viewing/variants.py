"""One run at work: the same weights with more or fewer tokens, each variant kept once it was made.

All variants are on one backbone in memory; a variant adds what the run trained.
"""

from __future__ import annotations

import statistics
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from vitrim.data.transforms import eval_transform
from vitrim.files.sharing import bare_backbone_of, base_of, load_onto
from vitrim.measuring.bench import take_turns
from vitrim.network.method import Method
from vitrim.network.model import StagedViT
from vitrim.report.explaining import guesses_of, maps_of
from vitrim.report.maps.pixels import as_pictures
from vitrim.report.maps.sheet import embedded
from vitrim.report.traced import Traced, trace
from vitrim.report.viewing.dials import dial_of
from vitrim.runs.opening import model_file_of
from vitrim.video.refusing import refuse_clips

Methods = tuple[Method, ...]
MOST_KEPT = 24  # variants in memory
ROUNDS = 5  # of plain backbone and variant in turn
SIDE = 448  # pixels of a picture on the page
NAMED = 3  # classes
ALL_TOKENS = -1.0  # the place of the variant without reducers


class Viewed:
    """A run on the page. `see` is called by one thread at a time, so that what it measures is not disturbed.

    Args:
        name: what the page calls it.
        run: a run folder or saved model file.
        turn: held while something is computed; shared by all runs of a page.
    """

    def __init__(self, name: str, run: str | Path, turn: threading.Lock) -> None:
        self.name, self.file, self.turn = name, model_file_of(run), turn
        self.base = base_of(*bare_backbone_of(self.file))
        self.trained = load_onto(self.base, self.file)
        refuse_clips(self.trained, "view")
        if self.trained.num_classes == 0:
            raise ValueError(f"{run} gives features, no classes, so there is no prediction to view")
        self.dial, self.why_none = dial_of(self.trained.methods, self.trained.patch_count)
        self.transform = eval_transform(self.trained.preprocess)
        self._made: OrderedDict[float, StagedViT] = OrderedDict()

    def about(self) -> dict[str, Any]:
        """What the page has to know before there is a picture."""
        dial = self.dial
        return {
            "name": self.name,
            "methods": [repr(method) for method in self.trained.methods],
            "dial": None
            if dial is None
            else {"values": dial.values, "usual": dial.usual, "words": dial.words, "setting": dial.setting},
            "why_no_dial": self.why_none,
        }

    def see(self, image: Tensor, value: float | None) -> dict[str, Any]:
        """What the run makes of one prepared image [C, height, width], with the dial at a value (None: as
        trained), for the page."""
        with self.turn:
            return self._see(image[None], value)

    def _see(self, images: Tensor, value: float | None) -> dict[str, Any]:
        model = self.variant(value)
        images = images.to(next(model.parameters()).dtype)
        pictures = as_pictures(model, images)
        traced = trace(model, images)
        whole = self._whole()
        everything = trace(whole, images) if whole is not model else traced
        return {
            "run": self.name,
            "picture": embedded(pictures[0], SIDE),
            "maps": [
                {
                    "block": each.block,
                    "words": each.words,
                    "tokens": traced.blocks[each.block].tokens,
                    "picture": embedded(each.picture, SIDE),
                }
                for each in maps_of(traced, pictures)[0]
            ],
            "tokens_at_start": int(traced.blocks[0].entering.shape[1]),
            "guesses": _named(model, traced),
            "guesses_all_tokens": _named(whole, everything),
            "task": model.task,
            **self._timed(model, images),
        }

    def _timed(self, model: StagedViT, images: Tensor) -> dict[str, float]:
        """How long a variant and the plain backbone take, in turn."""
        turns = take_turns({"plain": self.base.vit, "this": model}, images, ROUNDS)
        plain, ours = (1000 * statistics.median(turn.wall for turn in turns[name]) for name in turns)
        ratio = statistics.median(
            mine.wall / theirs.wall for mine, theirs in zip(turns["this"], turns["plain"], strict=True)
        )
        return {"milliseconds": ours, "milliseconds_plain": plain, "ratio": ratio, "rounds": ROUNDS}

    def variant(self, value: float | None) -> StagedViT:
        """The run with its dial at a value, made when it is first asked for."""
        dial = self.dial
        if value is None or (dial is not None and value == dial.usual):
            return self.trained
        if dial is None:
            raise ValueError(f"{self.name} has no slider: {self.why_none}")
        if value not in dial.values:
            raise ValueError(
                f"{dial.setting} must be one of {', '.join(f'{each:g}' for each in dial.values)}, "
                f"got {value:g}"
            )
        return self._kept(value, lambda methods: dial.turned(methods, value))

    def _whole(self) -> StagedViT:
        if not any(method.reduces for method in self.trained.methods):
            return self.trained
        return self._kept(ALL_TOKENS, _tuners)

    def _kept(self, place: float, changed: Callable[[Methods], Methods]) -> StagedViT:
        if place not in self._made:
            self._made[place] = load_onto(self.base, self.file, changed)
        self._made.move_to_end(place)
        while len(self._made) > MOST_KEPT:
            self._made.popitem(last=False)
        return self._made[place]


def _tuners(methods: Methods) -> Methods:
    return tuple(method for method in methods if not method.reduces)


def _named(model: StagedViT, traced: Traced) -> list[dict[str, Any]]:
    best: Sequence[tuple[str, float]] = guesses_of(model, traced, min(NAMED, model.num_classes))[0]
    return [{"name": name, "value": value} for name, value in best]
