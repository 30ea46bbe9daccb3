"""Random changes to training images, on whole batches and from one seeded generator."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from formula_textures import SIZE
from torch import Tensor


def normalise(images: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] to -1..1 [B, 3, H, W], which is mean = std = 0.5."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1.0


def uniform(low: float, high: float, count: int, rng: torch.Generator) -> Tensor:
    """`count` numbers between low and high."""
    return low + (high - low) * torch.rand(count, generator=rng)


def affine(flips: Tensor, rng: torch.Generator) -> Tensor:
    """Small rotations, scalings, shears and shifts; a mirror image where the class allows it. [B, 2, 3]"""
    n = len(flips)
    angle, shear = uniform(-0.2, 0.2, n, rng), uniform(-0.15, 0.15, n, rng)
    wide, high = (uniform(0.75, 1.15, n, rng) for _ in range(2))
    wide = torch.where(flips & (torch.rand(n, generator=rng) < 0.5), -wide, wide)
    rows = [
        torch.stack([wide * angle.cos(), high * (shear - angle.sin()), uniform(-0.12, 0.12, n, rng)], dim=1),
        torch.stack([wide * angle.sin(), high * angle.cos(), uniform(-0.12, 0.12, n, rng)], dim=1),
    ]
    return torch.stack(rows, dim=1)


def vary(images: Tensor, flips: Tensor, size: int, rng: torch.Generator) -> Tensor:
    """Random crop, brightness, contrast and colour. [B, 3, 96, 96] -> [B, 3, size, size]"""
    n = len(images)
    if size < SIZE:
        images = nnf.avg_pool2d(images, SIZE // size)
    grid = nnf.affine_grid(affine(flips, rng), [n, 3, size, size], align_corners=False)
    images = nnf.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    grey = (torch.rand(n, generator=rng) < 0.2)[:, None, None, None]
    images = torch.where(grey, images.mean(dim=1, keepdim=True), images)
    tint = uniform(0.85, 1.15, 3 * n, rng).view(n, 3, 1, 1) * uniform(0.7, 1.2, n, rng).view(n, 1, 1, 1)
    return (images * tint + uniform(-0.2, 0.2, n, rng).view(n, 1, 1, 1)).clamp(-1.0, 1.0)
