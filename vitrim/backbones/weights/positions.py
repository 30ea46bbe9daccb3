"""Position embeddings of a file on the grid of a model: resized by timm's own function where only the image
size differs."""

import math

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from vitrim.backbones.geometry import grid_size
from vitrim.backbones.support import TimmModule


def fit_positions(
    tensors: dict[str, Tensor], vit: TimmModule, file: str, jax: bool = False
) -> dict[str, Tensor]:
    """The tensors with `pos_embed` as the model wants it; as it was where it cannot be.

    Google's arrays are resized bilinearly, all others bicubically, as timm does.

    A model that gives its class token no position gets the file's added to the token itself: the same sum.
    """
    model, given = getattr(vit, "pos_embed", None), tensors.get("pos_embed")
    if model is None or given is None or model.ndim != 3 or given.shape[-1] != model.shape[-1]:
        return tensors
    found = dict(tensors)
    positions = given.reshape(1, -1, given.shape[-1])  # [1, P+N, D]
    if positions.dtype not in (torch.float32, torch.float64):
        positions = positions.float()
    grid = grid_size(vit)
    prefix = model.shape[1] - math.prod(grid)
    if getattr(vit, "no_embed_class", False) and "cls_token" in found and not _side(positions.shape[1], grid):
        first = positions[:, :1]
        found["cls_token"] = found["cls_token"].reshape(1, 1, -1) + first
        positions = positions[:, 1:]
    count = positions.shape[1] - prefix
    side = _side(count, grid)
    if count == math.prod(grid) and (grid[0] == grid[1] or side != (math.isqrt(count),) * 2):
        found["pos_embed"] = positions
    elif count == math.prod(grid):
        raise ValueError(
            f"{file!r} has {count} positions, which may be {side[0]}x{side[1]} or the model's "
            f"{grid[0]}x{grid[1]} patches; load it at its own image_size"
        )
    elif side:
        found["pos_embed"] = resample_abs_pos_embed(
            positions, list(grid), list(side), prefix, *(("bilinear", False) if jax else ("bicubic", True))
        )
    return found


def _side(count: int, grid: tuple[int, ...]) -> tuple[int, ...]:
    """Rows and columns of `count` patches: square, or the model's own; empty for neither."""
    root = math.isqrt(max(count, 0))
    if count > 0 and root * root == count:
        return root, root
    return grid if count == math.prod(grid) else ()
