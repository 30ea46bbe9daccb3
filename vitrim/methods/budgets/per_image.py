"""What methods with a budget per image have in common."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from vitrim.checks import check_one_of, is_number
from vitrim.methods.budgets.calibrating import calibrate
from vitrim.methods.budgets.chosen import Rule
from vitrim.methods.budgets.counted_part import CountedPart
from vitrim.network.method import Method, store_setting
from vitrim.network.placing import placed

if TYPE_CHECKING:
    from vitrim.methods.selection.scores import LabelledImages
    from vitrim.network.model import StagedViT


class PerImage(Method):
    """A reducer that may keep as many tokens of each image as a rule says, of the same mean as its fixed
    share. Subclasses have these settings: how many tokens an image keeps, bounds on it as shares of its
    tokens, and what `vitrim.fit` found for each block."""

    reduces: ClassVar[bool] = True
    fits_late: ClassVar[bool] = True  # what enters a block may depend on which weights train
    rules: ClassVar[Mapping[str, Rule]]

    if TYPE_CHECKING:  # the subclasses' fields, in their own order

        @property
        def budget(self) -> str: ...
        @property
        def least(self) -> float: ...
        @property
        def most(self) -> float: ...
        @property
        def levels(self) -> tuple[float, ...] | None: ...

    def shares(self) -> tuple[float, ...]:
        """The share of the tokens before it that each of its blocks keeps, of all images or in the mean."""
        raise NotImplementedError

    @property
    def settled(self) -> bool:
        """Whether the levels are known."""
        return self.budget == "fixed" or self.levels is not None

    @property
    def two_views(self) -> bool:
        """Scores are taken on single views."""
        return False

    @property
    def by_classes(self) -> bool:
        """Whether it chooses by the loss of classes: levels come from images alone."""
        return False

    def fit(self, model: "StagedViT", batches: "LabelledImages") -> Method:
        """Find the levels by what images need."""
        return self.calibrated(model, batches)

    def calibrated(self, model: "StagedViT", batches: "LabelledImages") -> Self:
        """The same with levels found on images, at work in the model."""
        steps = [
            (block, part)
            for block, part in placed(model)
            if isinstance(part, CountedPart) and part.by == self
        ]
        changes: dict[str, Any] = {"levels": calibrate(model, steps, batches, self)}
        found = replace(self, **changes)
        found.attach(model)
        return found

    def gives_levels(self, model: "StagedViT") -> bool:
        """Give levels to its parts that stand in the model without any; whether there are such."""
        if self.levels is None:
            return False
        waiting = self.uncalibrated()
        steps = [part for _, part in placed(model) if part.by == waiting and isinstance(part, CountedPart)]
        for step in steps:
            step.by = self
            step.adjust(self)
        return bool(steps)

    def first_levels(self, count: int) -> tuple[float, ...] | None:
        """Those of its first blocks."""
        return None if self.levels is None else self.levels[:count]

    def with_budget(self, share: float) -> Self:
        """The same for another share; levels have to be found anew."""
        least, most = min(self.least, share), max(self.most, share)
        changes: dict[str, Any] = {"keep": share, "levels": None, "least": least, "most": most}
        return replace(self, **changes)

    def uncalibrated(self) -> Self:
        """The same without levels."""
        changes: dict[str, Any] = {"levels": None}
        return replace(self, **changes)

    def with_fixed_counts(self) -> Self:
        """The same with the number that images keep in the mean, for every image."""
        changes: dict[str, Any] = {"budget": "fixed", "levels": None, "least": 0.0, "most": 1.0}
        return replace(self, **changes)


def check_budget(method: PerImage) -> None:
    """Refuse budgets, bounds and levels that mean nothing."""
    name = type(method).__name__
    check_one_of(name, "budget", method.budget, ("fixed", *method.rules))
    for bound in ("least", "most"):
        value = getattr(method, bound)
        if not is_number(value) or not 0 <= value <= 1:
            raise ValueError(f"{name}: {bound} must be a share from 0 to 1, got {value!r}")
    if method.least > method.most:
        raise ValueError(f"{name}: least must not be above most, got {method.least} and {method.most}")
    if method.budget == "fixed" and (method.least, method.most, method.levels) != (0, 1, None):
        raise ValueError(
            f"{name}: least, most and levels belong to a budget per image; give budget="
            f"{' or '.join(map(repr, method.rules))}, or leave them out"
        )
    shares = method.shares()
    if not method.least <= min(shares) or not max(shares) <= method.most:
        keep = getattr(method, "keep", None)
        raise ValueError(f"{name}: keep={keep} must lie between least={method.least} and {method.most}")
    if method.levels is not None:
        _check_levels(method, len(shares))


def _check_levels(method: PerImage, count: int) -> None:
    given: Any = method.levels
    levels = tuple(given) if isinstance(given, list | tuple) else (given,)
    store_setting(method, "levels", levels)
    whole = method.rules[method.budget].whole
    fits = all(is_number(each) and each >= 0 and (not whole or each == int(each) >= 1) for each in levels)
    if not fits or len(levels) != count:
        what = "a whole number of at least 1" if whole else "a number of at least 0"
        raise ValueError(
            f"{type(method).__name__}: levels must be {what} for each of the {count} blocks, got {given!r}; "
            "leave them out and call vitrim.fit"
        )
