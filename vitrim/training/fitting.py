"""Methods that choose by data before training: which weights train, which blocks are thinned.

>>> model = compose("vit_small_patch16_224", FisherDelta(), EViT(keep=0.95, at="sparse"), num_classes=10)
>>> vitrim.fit(model, batches)  # one pass over (images, labels); vitrim.train does it by itself
>>> model.methods               # now say what was chosen, and so does a saved file
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from vitrim.files.saving import saved_tensors
from vitrim.methods.notation import parse_method
from vitrim.methods.selection.scores import LabelledImages
from vitrim.network.combinations import check_composition
from vitrim.network.method import Method
from vitrim.network.model import StagedViT

if TYPE_CHECKING:
    from accelerate import Accelerator

    from vitrim.data import DataSource
    from vitrim.settings.training import Training


@runtime_checkable
class Fitted(Protocol):
    """A method that needs data before training.

    Attributes:
        settled: whether it has chosen, or needs no data with these settings.
        fits_late: whether it reads what others choose, and so comes after them.
        two_views: whether it wants ((view, other view), labels) instead of (images, labels).

    One that needs no classes has `by_classes` and says so there.
    """

    fits_late: ClassVar[bool]

    @property
    def settled(self) -> bool: ...

    @property
    def two_views(self) -> bool: ...

    def fit(self, model: StagedViT, batches: LabelledImages) -> Method:
        """Choose, act on the model, and return the method that says what was chosen."""


def fit(model: StagedViT, batches: LabelledImages) -> None:
    """Let every method that needs data choose; `batches` are the task's training images and labels.

    Raises:
        ValueError: if there are no images, or nothing to choose by.
    """
    fit_with(model, lambda method: batches)


def needs_fit(model: StagedViT) -> bool:
    """Whether some method of the model has yet to choose."""
    return any(isinstance(method, Fitted) and not method.settled for method in model.methods)


def needs_classes(method: Method) -> bool:
    """Whether the method has yet to choose, and does by the loss of classes."""
    return isinstance(method, Fitted) and not method.settled and getattr(method, "by_classes", True)


def fit_with(model: StagedViT, batches_for: Callable[[Fitted], LabelledImages]) -> None:
    """The same with batches made for each method."""
    methods = list(model.methods)
    waiting = [i for i, method in enumerate(methods) if isinstance(method, Fitted) and not method.settled]
    for index in sorted(waiting, key=lambda i: cast(Fitted, methods[i]).fits_late):
        method = cast(Fitted, methods[index])
        methods[index] = method.fit(model, batches_for(method))
        model.methods = tuple(methods)
    check_composition(model, model.methods)


def fit_for_training(
    model: StagedViT, source: DataSource, training: Training, accelerator: Accelerator
) -> None:
    """`fit` on a run's training images, the same in every process and in a resumed run."""
    from vitrim.runs.batches import scoring_batches

    model.to(accelerator.device)
    if accelerator.is_main_process:
        fit_with(model, lambda method: scoring_batches(model, source, training, method.two_views))
    if accelerator.num_processes > 1:
        from accelerate.utils import broadcast_object_list

        chosen: list[Any] = [None, None]
        if accelerator.is_main_process:
            chosen = [[repr(method) for method in model.methods], _on_cpu(saved_tensors(model))]
        broadcast_object_list(chosen)
        if not accelerator.is_main_process:
            adopt(model, chosen[0], chosen[1])


def adopt(model: StagedViT, methods: Sequence[str], tensors: Mapping[str, Tensor]) -> None:
    """Take over what was chosen elsewhere for a model of the same composition: the settled methods, and the
    tensors a checkpoint holds.
    """
    settled = tuple(parse_method(text) for text in methods)
    model.awaits = None
    for method, before in zip(settled, model.methods, strict=True):
        if method != before:
            method.attach(model)
    model.methods = settled
    check_composition(model, settled)
    own = saved_tensors(model)
    with torch.no_grad():
        for name, value in tensors.items():
            own[name].copy_(value)


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in tensors.items()}
