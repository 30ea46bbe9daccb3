"""What must hold for every reduction that merges patches, checked against a plain reference: a matrix built
from the token map."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vitrim.tokens.state import TokenState


def random_state(
    batch: int, grid: tuple[int, ...], prefix: int = 1, width: int = 6, seed: int = 0, trail: int = 1
) -> TokenState:
    """Tokens and trail of a random batch, float64, on the full grid."""
    generator = torch.Generator().manual_seed(seed)
    total = prefix + torch.Size(grid).numel()
    values = torch.randn(1 + trail, batch, total, width, generator=generator, dtype=torch.float64)
    state = TokenState.start(values[0], prefix, grid)
    return TokenState(**{**vars(state), "trail": tuple(values[1:])})


def slots_of(before: TokenState, after: TokenState) -> Tensor:
    """Where each old token went, read off the two token maps: [B, N]"""
    slots = torch.full((before.tokens.shape[0], before.count), -1)
    return slots.scatter(1, before.source.clamp(min=0), after.source)


def check_merge(before: TokenState, after: TokenState, tolerance: float = 1e-12) -> None:
    """Every patch is in exactly one token, sizes count them, tokens and trail are their means weighted by
    size, the prefix is untouched, and every token sits on a cell of its own."""
    batch, start = before.source.shape
    assert after.prefix == before.prefix and after.grid == before.grid
    assert bool((after.source >= 0).all()) and int(after.source.max()) < after.count
    counts = F.one_hot(after.source, after.count).sum(1)  # [B, M]
    assert torch.equal(after.sizes, counts.to(after.sizes.dtype))
    assert torch.equal(after.sizes.sum(1), torch.full((batch,), start, dtype=after.sizes.dtype))
    own = after.source.gather(1, after.position)  # the patch of a token's cell is in that token
    assert torch.equal(own, torch.arange(after.count).expand(batch, -1))
    member = F.one_hot(slots_of(before, after), after.count).transpose(1, 2) * before.sizes[:, None]
    weights = member / member.sum(-1, keepdim=True)
    for old, new in zip((before.tokens, *before.trail), (after.tokens, *after.trail), strict=True):
        assert torch.equal(new[:, : after.prefix], old[:, : before.prefix])
        expected = weights.to(old.dtype) @ old[:, before.prefix :]
        assert (new[:, after.prefix :] - expected).abs().max() <= tolerance * old.abs().max()
    mean = [(s.sizes[..., None] * s.tokens[:, s.prefix :]).sum(1) / start for s in (before, after)]
    assert (mean[0] - mean[1]).abs().max() <= tolerance * before.tokens.abs().max()
