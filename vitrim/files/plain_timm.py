"""`to_timm`: a composed model as the plain timm module it folds into, checked on images first."""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from vitrim.backbones.support import TimmModule
from vitrim.compose import merge
from vitrim.network.copying import copied
from vitrim.network.model import StagedViT
from vitrim.network.stage import Stage

PARTS = {
    "prompts": ("prompts",),
    "reducers": ("before", "reducer"),
    "branches": ("beside_attention", "beside_mlp"),
    "layers behind attention or MLP": ("after_attention", "after_mlp"),
    "dispatchers": ("dispatch",),
}  # the plug points of a stage, in words


def to_timm(model: StagedViT) -> nn.Module:
    """A plain timm module that computes the same: every tuner folded in, nothing of vitrim left.

    The module is a copy in evaluation mode, on the model's device, every parameter ready to train, as timm
    makes them. Before it is returned, its logits are compared with the model's on random images of the
    model's size. A shift that was folded into a layer without a bias gave it one, under timm's name.

    Raises:
        ValueError: if something of the composition cannot be folded (reducers, branches, prompts,
            dispatchers), or timm's own forward would compute something else.

    >>> timm_model = to_timm(load("runs/pets/model.safetensors"))
    """
    if not isinstance(model, StagedViT):
        raise ValueError(
            f"to_timm needs a composed model, got {type(model).__name__}; call vitrim.compose or vitrim.load"
        )
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ValueError("to_timm compares logits, but this model is on the meta device, without values")
    if model.awaits is not None:
        raise ValueError(f"{model.awaits}: the blocks are not chosen yet; train the model first")
    merged = merge(model).eval()
    _refuse_parts(merged)
    _fold_head_norm(merged.vit)
    _check_logits(model, merged.vit)
    plain: nn.Module = merged.vit.requires_grad_(True)
    return plain


def _refuse_parts(merged: StagedViT) -> None:
    """Name what stands in the stages once everything that folds is folded."""
    found = {
        name: [i for i, stage in enumerate(merged.stages) if _holds(stage, at)] for name, at in PARTS.items()
    }
    found = {name: blocks for name, blocks in found.items() if blocks}
    if any(stage.proportional for stage in merged.stages) and not found:
        found["attention weighed by sizes"] = [i for i, s in enumerate(merged.stages) if s.proportional]
    if not found:
        return
    where = ", ".join(f"{name} (block {_numbers(blocks)})" for name, blocks in found.items())
    methods = ", ".join(repr(method) for method in merged.methods)
    raise ValueError(
        f"no plain timm module computes what {methods} adds: {where}; keep the composed model with "
        "vitrim.save, or write a program that needs no vitrim with vitrim.export"
    )


def _holds(stage: Stage, places: tuple[str, ...]) -> bool:
    parts = [getattr(stage, place) for place in places]
    return any(len(part) > 0 if isinstance(part, nn.ModuleList) else part is not None for part in parts)


def _numbers(blocks: list[int]) -> str:
    whole = len(blocks) > 2 and blocks == list(range(blocks[0], blocks[-1] + 1))
    return f"{blocks[0]} to {blocks[-1]}" if whole else ", ".join(map(str, blocks))


@torch.no_grad()
def _fold_head_norm(vit: TimmModule) -> None:
    """Fold the BatchNorm before the classifier into it: W / sd, b - W mean / sd."""
    if not isinstance(vit.head_drop, nn.Sequential):
        return
    dropout, norm = vit.head_drop
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    spread = (variance + cast(nn.BatchNorm1d, norm).eps).sqrt()
    for head in _linear_heads(vit):
        weight = head.weight / spread
        shift = weight @ mean
        head.bias = nn.Parameter(-shift if head.bias is None else head.bias - shift)
        head.weight = nn.Parameter(weight)
    vit.head_drop = dropout


def _linear_heads(vit: nn.Module) -> Iterator[nn.Linear]:
    for name in ("head", "head_dist"):
        head = getattr(vit, name, None)
        if isinstance(head, nn.Linear):
            yield head
        elif name == "head":
            raise ValueError(
                "the BatchNorm of BatchNormHead() cannot be folded: this model has no linear classifier"
            )


@torch.no_grad()
def _check_logits(model: StagedViT, plain: nn.Module) -> None:
    """Refuse a module whose own forward gives other logits than the model, up to rounding."""
    like = next(plain.parameters())
    shape = 2, model.preprocess.channels, *model.preprocess.image_size
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(like)
    wanted = copied(model).eval()(images)
    given = plain(images)
    difference, largest = _largest(wanted - given), _largest(wanted)
    if not difference <= torch.finfo(like.dtype).eps ** 0.5 * max(largest, 1e-30):
        gained = sorted(set(plain.state_dict()) - {name.removeprefix("vit.") for name in model.base_names})
        reason = f"its forward does not read {gained[0]}" if gained else "its forward runs otherwise"
        raise ValueError(
            f"timm's own {type(plain).__name__} gives other logits with these weights (by {difference:.1e} "
            f"of {largest:.1e}; {reason}); keep the composed model with vitrim.save, or use vitrim.export"
        )


def _largest(values: Tensor) -> float:
    return values.abs().max().item()
