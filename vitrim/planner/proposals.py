"""`propose`: compositions of a tuner and a reducer that stay within a budget, counted on the meta device."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vitrim.network.method import Method
from vitrim.network.placing import placed
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
        found: those with a published gain by one kind of mean, best first, then those by the other, as the
            two are not on one scale, then those without, which keep most operations first.
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
    tick: Callable[[int, int], None] | None = None,
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
        tick: told how many pairs of methods are done, of how many.

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
        only(tuner_ladders(counted.bare), tuners, "tuner"),
        only(reducer_ladders(counted.bare), reducers, "reducer"),
        tick or (lambda done, of: None),
    )
    if not search.found:
        raise ValueError(f"nothing on {model} stays within {budget}: {search.nearest()}")
    plain = None if stopwatch is None else stopwatch.plain_milliseconds
    return Proposals(model, budget, best_first(search.found), search.left_out, search.plain_gmacs, plain)


def best_first(proposals: Sequence[Proposal]) -> tuple[Proposal, ...]:
    """Those with a published gain by that, each kind of mean by itself, then the others by the operations
    they keep.
    """

    def rank(proposal: Proposal) -> tuple[bool, str, float, float, int]:
        printed = proposal.published
        kind, gain = (printed.kind, printed.gain) if printed else ("", 0.0)
        return printed is None, kind, -gain, -proposal.share, proposal.trained

    return tuple(sorted(proposals, key=rank))


class _Search:
    """Goes through every pair of a tuner and a reducer."""

    def __init__(self, budget: Budget, counted: Counted, stopwatch: Stopwatch | None) -> None:
        self.budget, self.counted, self.stopwatch = budget, counted, stopwatch
        self.found: list[Proposal] = []
        self.left_out: dict[str, str] = {}
        self.plain_gmacs = counted.macs(()) / 1e9

    def go(
        self,
        tuners: Mapping[str, list[Method]],
        reducers: Mapping[str, list[Method]],
        tick: Callable[[int, int], None],
    ) -> None:
        able = {name: sizes for name, sizes in tuners.items() if self._able(name, sizes)}
        ladders = {name: ladder for name, ladder in reducers.items() if self._able(name, ladder)}
        pairs = [(one, other) for one in able for other in ("no reduction", *ladders)]
        for done, (tuner, reducer) in enumerate(pairs):
            tick(done, len(pairs))
            steps = able[tuner] if self.budget.megabytes is not None else [usual(able[tuner])]
            try:
                why = self._look(steps, ladders.get(reducer, []))
            except ValueError as refusal:  # of compose: the two do not go together
                why = str(refusal)
            if why:
                self.left_out[f"{tuner} + {reducer}"] = why

    def _able(self, name: str, ladder: Sequence[Method]) -> bool:
        """Whether the backbone can have a method, and a budget can be promised of it."""
        try:
            model = self.counted.composed(tuple(ladder[-1:]))
        except ValueError as refusal:
            self.left_out[name] = str(refusal)
            return False
        asked = self.budget.share is not None or self.budget.milliseconds is not None
        if asked and not all(getattr(part, "static", True) for _, part in placed(model)):
            self.left_out[name] = "how many tokens leave depends on the image, so no budget can be promised"
            return False
        return bool(ladder)

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
