"""`propose`: compositions of a tuner and a reducer that stay within a budget, counted on the meta device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vitrim.network.method import Method
from vitrim.planner.budget import Budget, parse_budget
from vitrim.planner.counted import Counted
from vitrim.planner.ladders import first_within, only, reducer_ladders, tuner_ladders, usual
from vitrim.planner.published import Printed, published_for
from vitrim.planner.stopwatch import Stopwatch

TRIES = 4  # measurements of one composition on the way to a budget in milliseconds
MARGIN = 0.98  # aim a little below such a budget: the next measurement differs


@dataclass(frozen=True)
class Proposal:
    """A composition, and what it takes.

    Attributes:
        methods: what to give to `compose`, or one --method each.
        gmacs: billions of multiply-accumulates for an image in the papers' convention, nothing folded.
        share: the same divided by the plain backbone's.
        trained: parameters that train, the classifier left out.
        megabytes: of the file for each task, classifier included.
        milliseconds: for one image, everything folded that folds; None where it was not measured.
        published: what papers print about these kinds of methods; None where they print nothing.
    """

    methods: tuple[Method, ...]
    gmacs: float
    share: float
    trained: int
    megabytes: float
    milliseconds: float | None = None
    published: Printed | None = None

    @property
    def folds(self) -> bool:
        """Whether the tuner folds away after training, so that it costs nothing at inference."""
        return self.methods[0].folds


@dataclass(frozen=True)
class Proposals:
    """What was found for one backbone.

    Attributes:
        model: its name.
        budget: what was asked.
        found: best first: those with a published gain by that, then those that keep most operations.
        left_out: what cannot meet the budget or run on the backbone, with the reason, by name.
        plain_gmacs: the plain backbone in the same convention.
        plain_milliseconds: measured, or None.
    """

    model: str
    budget: Budget
    found: tuple[Proposal, ...]
    left_out: dict[str, str]
    plain_gmacs: float
    plain_milliseconds: float | None = None


def propose(
    model: str,
    *budgets: str | float,
    classes: int = 100,
    image_size: int | tuple[int, int] | None = None,
    tuners: Sequence[str] | None = None,
    reducers: Sequence[str] | None = None,
    stopwatch: Stopwatch | None = None,
) -> Proposals:
    """Compositions on `model` that meet every budget, each as large and as gentle as the budgets allow.

    Args:
        model: a timm name, a checkpoint file named after its model, or the bundled backbone.
        budgets: a share of the plain operations (0.6 or "60%"), milliseconds for an image ("12ms"), megabytes
            of the file for each task ("1.5MB"); at most one of each.
        classes: of the task; the classifier is part of the file.
        image_size: pixels, if not what the backbone was made for.
        tuners, reducers: only these, by class name; all if not given.
        stopwatch: measures every proposal; one is made where the budget is in milliseconds.

    Raises:
        ValueError: for a budget that is not understood, or that nothing meets.

    >>> propose("vit_base_patch16_224", 0.6).found[0].share
    """
    budget = parse_budget(budgets)
    if stopwatch is None and budget.milliseconds is not None:
        stopwatch = Stopwatch(model, image_size)
    counted = Counted(model, classes, image_size)
    search = _Search(budget, counted, stopwatch)
    search.go(
        only(tuner_ladders(), tuners, "tuner"),
        only(reducer_ladders(counted.depth, counted.patches), reducers, "reducer"),
    )
    if not search.found:
        raise ValueError(f"nothing on {model} stays within {budget}: {search.nearest()}")
    plain = None if stopwatch is None else stopwatch.plain_milliseconds
    return Proposals(model, budget, best_first(search.found), search.left_out, search.plain_gmacs, plain)


def best_first(proposals: Sequence[Proposal]) -> tuple[Proposal, ...]:
    """Those with a published gain by that, then the others by the operations they keep."""

    def rank(proposal: Proposal) -> tuple[float, float, int]:
        gain = proposal.published.gain if proposal.published else -math.inf
        return -gain, -proposal.share, proposal.trained

    return tuple(sorted(proposals, key=rank))


class _Search:
    """Goes through every pair of a tuner and a reducer."""

    def __init__(self, budget: Budget, counted: Counted, stopwatch: Stopwatch | None) -> None:
        self.budget, self.counted, self.stopwatch = budget, counted, stopwatch
        self.found: list[Proposal] = []
        self.left_out: dict[str, str] = {}
        self.plain_gmacs = counted.macs(()) / 1e9

    def go(self, tuners: Mapping[str, list[Method]], reducers: Mapping[str, list[Method]]) -> None:
        for tuner, sizes in tuners.items():
            steps = sizes if self.budget.megabytes is not None else [usual(sizes)]
            for reducer, ladder in {"no reduction": [], **reducers}.items():
                try:
                    why = self._look(steps, ladder)
                except ValueError as refusal:  # of compose: the backbone cannot have it
                    self.left_out[reducer if ladder else tuner] = str(refusal)
                else:
                    if why:
                        self.left_out[f"{tuner} + {reducer}"] = why

    def _look(self, sizes: Sequence[Method], ladder: Sequence[Method]) -> str:
        """Keep the largest tuner with the gentlest reducer within the budget; or say why there is none."""
        strongest = tuple(ladder[-1:])
        size = first_within(sizes, lambda method: self._fits_file((method, *strongest)))
        if size is None:
            return f"its smallest file has {self.counted.megabytes((sizes[-1], *strongest)):.3g} MB"
        if self.budget.milliseconds is not None and self.stopwatch is not None:
            return self._within_time(size, ladder, self.budget.milliseconds, self.stopwatch)
        methods = self._within_share(size, ladder, self._most())
        if methods is None:
            return self._too_many(size, ladder)
        self._keep(methods, None if self.stopwatch is None else self.stopwatch.milliseconds(methods))
        return ""

    def _within_time(
        self, tuner: Method, ladder: Sequence[Method], limit: float, stopwatch: Stopwatch
    ) -> str:
        """The same by measuring: time goes roughly with operations, so each try aims at a share."""
        target, best, why = self._most(), None, ""
        for _ in range(TRIES):
            methods = self._within_share(tuner, ladder, target)
            if methods is None:
                why = why or self._too_many(tuner, ladder)
                break
            taken, share = stopwatch.milliseconds(methods), self.counted.share(methods)
            if taken > limit:
                why = f"takes {taken:.3g} ms at {share:.2f} of the operations"
            elif best is None or share > self.counted.share(best):
                best = methods
            if not ladder or 0.95 < taken / limit <= 1:
                break
            target = min(self._most(), share * MARGIN * limit / taken)
        if best is None:
            return why
        self._keep(best, stopwatch.milliseconds(best))
        return ""

    def _within_share(
        self, tuner: Method, ladder: Sequence[Method], share: float
    ) -> tuple[Method, ...] | None:
        """The tuner with the gentlest reducer that leaves at most this share of the operations."""
        if not ladder:
            return (tuner,) if self.counted.share((tuner,)) <= share else None
        # A tuner adds little to what the reducer leaves, so all tuners share the search for its first step
        first = first_within(ladder, lambda method: self.counted.share((method,)) <= share)
        steps = ladder[ladder.index(first) :] if first is not None else ()
        return next(((tuner, step) for step in steps if self.counted.share((tuner, step)) <= share), None)

    def _keep(self, methods: tuple[Method, ...], milliseconds: float | None) -> None:
        self.found.append(
            Proposal(
                methods=methods,
                gmacs=self.counted.macs(methods) / 1e9,
                share=self.counted.share(methods),
                trained=self.counted.trained(methods),
                megabytes=self.counted.megabytes(methods),
                milliseconds=milliseconds,
                published=published_for(methods),
            )
        )

    def _most(self) -> float:
        return math.inf if self.budget.share is None else self.budget.share

    def _fits_file(self, methods: tuple[Method, ...]) -> bool:
        return self.budget.megabytes is None or self.counted.megabytes(methods) <= self.budget.megabytes

    def _too_many(self, tuner: Method, ladder: Sequence[Method]) -> str:
        return f"takes at least {self.counted.share((tuner, *ladder[-1:])):.3f} of the operations"

    def nearest(self) -> str:
        """For a refusal: how low the figures can go that were asked for."""
        words = []
        if self.budget.megabytes is not None:
            words.append(f"the smallest file has {self.counted.least_megabytes():.3g} MB")
        if self.counted.least_share() < 1:  # files that are too large are not counted
            words.append(f"the strongest reducers leave {self.counted.least_share():.2f} of the operations")
        if self.stopwatch is not None:
            least = self.stopwatch.least_milliseconds
            words.append(f"the fastest composition measured takes {least:.3g} ms")
        return ", ".join(words) or "no reducer that was tried leaves fewer"
