"""How much the loss depends on every weight: one pass over training images, on the plain backbone.

Three measures, for a weight theta and a loss L:

    per_sample   mean over images of (dL/dtheta)^2, the diagonal Fisher information (TR-PTS, eq. 2)
    batch        mean over batches of (d mean L/dtheta)^2, cheaper and another ranking
    gradient     |sum over batches of d mean L/dtheta|, signs cancelling (GPS)

A layer with inputs x and output gradients g has the gradient g^T x; each layer forms it from the two during
the backward pass, adds it up and drops it, so no gradient of the whole backbone is ever held, nor one per
image.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.backbones.tuned_linear import TunedLinear
from vitrim.methods.selection.candidates import Candidate, candidates
from vitrim.methods.selection.contrastive import contrastive_loss
from vitrim.network.model import StagedViT

if TYPE_CHECKING:
    from vitrim.network.method import Method

MEASURES = ("per_sample", "batch", "gradient")
LOSSES = ("cross_entropy", "contrastive")
CHUNK = 2**24  # numbers of per-image gradients held at a time: 64 MiB

# Images or a pair of views of them, and labels
LabelledImages = Iterable[tuple[Any, Tensor]]


@dataclass(frozen=True)
class Scores:
    """The score of every weight of some matrices, [out, in] each, by the weight's name in the backbone."""

    values: dict[str, Tensor]
    measure: str
    loss: str
    images: int


def measure_scores(
    model: StagedViT,
    batches: LabelledImages,
    by: "Method",
    measure: str = "per_sample",
    loss: str = "cross_entropy",
    patch: bool = False,
) -> Scores:
    """Score the weights of a model's backbone; tuners and reducers on it have no say.

    Raises:
        ValueError: if there are no images, labels the classifier does not have, or nothing to rank by.
    """
    plain = model.plain()
    was_training = model.training
    plain.eval()
    anchor = torch.zeros((), requires_grad=True, device=next(model.vit.parameters()).device)
    images_seen = batches_seen = 0
    with _observed(candidates(model, patch), anchor, measure, by) as tallies, torch.enable_grad():
        for images, labels in batches:
            labels = labels.to(anchor.device)
            for tally in tallies.values():
                tally.samples = len(labels) * (2 if loss == "contrastive" else 1)
            total = _loss(plain, images, labels, loss, "sum" if measure == "per_sample" else "mean", by)
            torch.autograd.grad(total, anchor, allow_unused=True)
            images_seen, batches_seen = images_seen + len(labels), batches_seen + 1
    model.train(was_training)
    if not images_seen:
        raise ValueError(f"{by}: there are no images to choose weights by; give batches of training images")
    share = {"per_sample": images_seen, "batch": batches_seen, "gradient": 1}[measure]
    values = {name: tally.total.div_(share).abs_() for name, tally in tallies.items()}
    _check(values, by)
    return Scores(values, measure, loss, images_seen)


def _loss(plain: StagedViT, images: Any, labels: Tensor, loss: str, reduction: str, by: "Method") -> Tensor:
    if loss == "contrastive":
        if not isinstance(images, tuple | list) or len(images) != 2:
            raise ValueError(f"{by}: contrastive needs batches of ((view, other view), labels)")
        both = torch.cat([view.to(labels.device) for view in images])  # [2B, C, height, width]
        return contrastive_loss(plain.read_by_head(both), labels.repeat(2))
    if isinstance(images, tuple | list):
        images = images[0]
    if int(labels.max()) >= plain.num_classes:
        raise ValueError(
            f"{by}: the images have a label {int(labels.max())}, but the classifier tells only "
            f"{plain.num_classes} classes apart; compose with num_classes={int(labels.max()) + 1} or more"
        )
    return F.cross_entropy(plain(images.to(labels.device)), labels, reduction=reduction)


def _check(values: dict[str, Tensor], by: "Method") -> None:
    if not all(bool(score.isfinite().all()) for score in values.values()):
        raise ValueError(f"{by}: some gradients are not finite; check the images and the backbone's weights")
    if not any(bool(score.any()) for score in values.values()):
        raise ValueError(
            f"{by}: every gradient is zero, so there is nothing to rank by; is the classifier all zeros?"
        )


class Tally:
    """What has been added up of one matrix so far."""

    def __init__(self, weight: Tensor, measure: str) -> None:
        self.total = torch.zeros_like(weight.detach().flatten(1))
        self.measure = measure
        self.samples = 1  # images or clips of the batch at hand

    @torch.no_grad()
    def add(self, gradients: Tensor, inputs: Tensor, rows: slice) -> None:
        """From output gradients [B, T, O] of the rows, and inputs [B, T, I]; of clips every frame is one of
        the B."""
        total = self.total[rows]
        if self.measure == "per_sample":
            add_squares(
                total, *(each.reshape(self.samples, -1, each.shape[-1]) for each in (gradients, inputs))
            )
            return
        product = gradients.flatten(0, 1).t() @ inputs.flatten(0, 1)
        total.add_(product if self.measure == "gradient" else product.square_())


def add_squares(total: Tensor, gradients: Tensor, inputs: Tensor) -> None:
    """Add the sum over images of (g^T x)^2 to `total` [O, I], a few images at a time."""
    if inputs.shape[1] == 1:  # one token: the square of a product is the product of squares
        total.addmm_(gradients[:, 0].square().t(), inputs[:, 0].square())
        return
    at_once = max(1, CHUNK // total.numel())
    for some, seen in zip(gradients.split(at_once), inputs.split(at_once), strict=True):
        total.add_(torch.bmm(some.transpose(1, 2), seen).square_().sum(0))


@contextmanager
def _observed(
    layers: list[Candidate], anchor: Tensor, measure: str, by: "Method"
) -> Iterator[dict[str, Tally]]:
    """Stand-ins for the layers, which add up what they see; the layers are back at the end."""
    before = [candidate.layer for candidate in layers]
    tallies = {}
    try:
        for candidate, layer in zip(layers, before, strict=True):
            tally = tallies[candidate.name] = Tally(layer.weight, measure)
            kind = _ObservedConv if isinstance(layer, nn.Conv2d) else _ObservedLinear
            candidate.site.put(kind(layer, tally, anchor, by))  # type: ignore[arg-type]
        yield tallies
    finally:
        for candidate, layer in zip(layers, before, strict=True):
            candidate.site.put(layer)


class _ObservedLinear(TunedLinear):
    def __init__(self, base: nn.Linear, tally: Tally, anchor: Tensor, by: "Method") -> None:
        super().__init__(base, by)
        self.tally, self.anchor = tally, anchor

    def forward(self, inputs: Tensor) -> Tensor:
        return self.part(inputs, slice(0, self.out_features))

    def part(self, inputs: Tensor, rows: slice) -> Tensor:
        outputs = F.linear(inputs, self.weight[rows], None if self.bias is None else self.bias[rows])
        return _Observe.apply(outputs, self.anchor, inputs.detach(), self.tally, rows)


class _ObservedConv(nn.Module):
    """A patch embedding; its filters are rows of a matrix that multiplies unfolded patches."""

    def __init__(self, base: nn.Conv2d, tally: Tally, anchor: Tensor, by: "Method") -> None:
        super().__init__()
        self.base, self.weight, self.tally, self.anchor = base, base.weight, tally, anchor
        self.in_channels = base.in_channels  # what images are checked against

    def forward(self, images: Tensor) -> Tensor:
        outputs = self.base(images)  # [B, O, h, w]
        size, stride, padding = self.base.kernel_size, self.base.stride, self.base.padding
        seen = F.unfold(images, size, stride=stride, padding=padding)  # type: ignore[arg-type]
        flat = outputs.flatten(2).transpose(1, 2)  # [B, N, O]
        rows = slice(0, flat.shape[2])
        watched = _Observe.apply(flat, self.anchor, seen.transpose(1, 2).detach(), self.tally, rows)
        return watched.transpose(1, 2).view_as(outputs)


class _Observe(torch.autograd.Function):
    """Outputs as they are; their gradient is shown to a tally. The anchor makes the first layers
    differentiable, whose inputs need no gradient.
    """

    @staticmethod
    def forward(ctx, outputs, anchor, inputs, tally, rows):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(inputs)
        ctx.tally, ctx.rows = tally, rows
        return outputs.view_as(outputs)

    @staticmethod
    def backward(ctx, gradients):  # type: ignore[no-untyped-def]
        (inputs,) = ctx.saved_tensors
        ctx.tally.add(gradients, inputs, ctx.rows)
        return gradients, None, None, None, None
