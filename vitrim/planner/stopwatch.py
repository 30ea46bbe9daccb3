"""Milliseconds for an image on this machine, each composition in turns with the plain backbone."""

from __future__ import annotations

import statistics

import torch

from vitrim.checks import check_positive
from vitrim.compose import compose
from vitrim.measuring.bench import relative, take_turns
from vitrim.measuring.devices import pick_device
from vitrim.network.method import Method


class Stopwatch:
    """Measures compositions of one backbone with random weights; each once.

    A composition is timed as it is deployed: without the tuners that fold away. Its milliseconds are the
    plain backbone's median times the median ratio of the rounds, so that a moment in which the machine was
    busy counts against neither.
    """

    def __init__(
        self,
        model: str,
        image_size: int | tuple[int, int] | None = None,
        batch_size: int = 1,
        rounds: int = 7,
        device: str | None = None,
    ) -> None:
        check_positive("plan", "batch_size", batch_size)
        self.model, self.image_size, self.rounds = model, image_size, rounds
        self.device = pick_device(device)
        self._ratios: dict[tuple[Method, ...], float] = {}
        bare = compose(model, image_size=image_size)
        self._plain = bare.vit.to(self.device).eval()
        size = (batch_size, bare.preprocess.channels, *bare.preprocess.image_size)
        self._images = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(self.device)
        turns = take_turns({"plain": self._plain}, self._images, rounds)["plain"]
        self.plain_milliseconds = 1000 * statistics.median(turn.wall for turn in turns) / batch_size

    @property
    def least_milliseconds(self) -> float:
        """Of all compositions measured so far."""
        return self.plain_milliseconds * min(self._ratios.values(), default=1.0)

    def milliseconds(self, methods: tuple[Method, ...]) -> float:
        """For one image of a batch."""
        staying = tuple(method for method in methods if not method.folds)
        if staying not in self._ratios:
            model = compose(self.model, *staying, image_size=self.image_size).to(self.device).eval()
            turns = take_turns({"plain": self._plain, "composed": model}, self._images, self.rounds)
            speed = relative("composed", turns["composed"], turns["plain"], len(self._images))
            self._ratios[staying] = speed.ratio
        return self.plain_milliseconds * self._ratios[staying]
