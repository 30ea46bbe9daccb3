"""Indices in few bits: each takes as many as its largest possible value needs, with no padding between."""

import torch
from torch import Tensor


def bits_of(size: int) -> int:
    """Bits that tell `size` values apart."""
    return max(1, (size - 1).bit_length())


def packed_bytes(count: int, size: int) -> int:
    """Bytes that `count` indices below `size` take."""
    return -(-count * bits_of(size) // 8)


def pack_indices(index: Tensor, size: int) -> Tensor:
    """Indices below `size`, of any shape, as bytes."""
    place = torch.arange(bits_of(size), device=index.device)
    bits = ((index.flatten().long()[:, None] >> place) & 1).flatten()
    bits = torch.nn.functional.pad(bits, (0, -bits.numel() % 8)).view(-1, 8)
    return (bits << torch.arange(8, device=index.device)).sum(1).to(torch.uint8)


def unpack_indices(packed: Tensor, count: int, size: int) -> Tensor:
    """The first `count` indices of what `pack_indices` made: [count]."""
    width = bits_of(size)
    bits = (packed.long()[:, None] >> torch.arange(8, device=packed.device)) & 1
    kept = bits.flatten()[: count * width].view(count, width)
    return (kept << torch.arange(width, device=packed.device)).sum(1)
