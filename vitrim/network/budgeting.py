"""Budgets that are changed after composing: another share of tokens, or the same number for every image."""

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, Self, cast, runtime_checkable

from vitrim.checks import check_share
from vitrim.network.copying import copied
from vitrim.network.placing import placed

if TYPE_CHECKING:
    from vitrim.network.method import Method
    from vitrim.network.model import StagedViT


@runtime_checkable
class Budgeted(Protocol):
    """A method that keeps a share of the tokens, which may be another one."""

    def with_budget(self, share: float) -> Self:
        """The same for another share; levels of a budget per image have to be found anew."""

    def with_fixed_counts(self) -> Self:
        """The same with the number that images keep in the mean, for every image."""

    def uncalibrated(self) -> Self:
        """The same without what was found by images, for a budget per image."""


@runtime_checkable
class Adjustable(Protocol):
    """A part on a block that takes other settings of its method."""

    def adjust(self, settings: "Method") -> None:
        """Work with other settings from now on."""


@runtime_checkable
class Drawing(Protocol):
    """A part that trains with another share in every step."""

    def draw(self, share: float) -> None:
        """Take the share drawn, a number from 0 to 1 within the range it trains with."""


def set_budget(model: "StagedViT", share: float) -> None:
    """Let every method that keeps a share of the tokens keep another one. A budget per image is calibrated
    anew by `vitrim.fit` before the model runs."""
    check_share("set_budget", "budget", share)
    _change(model, lambda method: method.with_budget(share))


def take_budget(model: "StagedViT", methods: "Sequence[Method]") -> None:
    """Let a model work with the budget, and the levels of it, that were found for another one of its file."""
    found = {repr(old): new for old, new in zip(model.methods, methods, strict=True)}
    _change(model, lambda method: cast("Budgeted", found[repr(method)]))


def fixed(model: "StagedViT") -> "StagedViT":
    """A copy in which every image keeps the number of tokens that images keep in the mean: shapes no longer
    depend on the image, as exported files need.

    >>> vitrim.export(vitrim.fixed(model), "model.onnx")
    """
    twin = copied(model)
    _change(twin, lambda method: method.with_fixed_counts())
    return twin


def forget_levels(model: "StagedViT") -> bool:
    """Let methods with a budget per image forget what they were calibrated to, so that `vitrim.fit` does it
    again; whether there are any."""
    if not any(isinstance(method, Budgeted) and method != method.uncalibrated() for method in model.methods):
        return False
    _change(model, lambda method: method.uncalibrated())
    return True


def _change(model: "StagedViT", change: Callable[[Budgeted], Budgeted]) -> None:
    if not any(isinstance(method, Budgeted) for method in model.methods):
        raise ValueError(
            f"no method of this model has a budget to set ({', '.join(map(repr, model.methods)) or 'none'}); "
            "compose with a reducer that keeps a share of the tokens, such as EViT(keep=0.7)"
        )
    after = []
    for method in model.methods:
        new = cast("Method", change(method)) if isinstance(method, Budgeted) else method
        for _, part in placed(model):
            if part.by == method and isinstance(part, Adjustable):
                part.by = new
                part.adjust(new)
        after.append(new)
    model.methods = tuple(after)


def draw_budgets(model: "StagedViT", seed: int, epoch: int, step: int) -> None:
    """Draw the share that this training step keeps, where a method trains for a range of them: the same for
    all blocks and processes, and the same again in a resumed run."""
    share = random.Random(f"{seed} {epoch} {step}").random()
    for _, part in placed(model):
        if isinstance(part, Drawing):
            part.draw(share)
