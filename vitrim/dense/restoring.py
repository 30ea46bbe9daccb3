"""What dense heads read: the maps of several blocks on the whole grid, however few tokens were left there.

delta, copy, knn   as `vitrim.restore` has them, at every tap with the history up to that block
fuse_last          pruned tokens, as they were when they were pruned, join the others again before the
                   last block, which runs on the whole grid: after Token Cropr's last-layer fusion
logits             the head reads the tokens that are left, and a patch gets the logits of the token it
                   went to (or of itself as it was when it was dropped)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vitrim.network.model import StagedViT
from vitrim.network.placing import placed
from vitrim.tokens.restore import restore
from vitrim.tokens.state import Reduction, TokenState, at_least_float32, take_rows

RESTORE = ("delta", "copy", "knn", "fuse_last", "logits")


def states_at(model: StagedViT, images: Tensor, taps: Sequence[int], mode: str) -> list[TokenState]:
    """The state after each of the blocks `taps`, with what every reduction did; the last is that of the last
    block that is needed. Blocks behind the last tap are not run."""
    state, places = model.begin(images, history=True)
    state = replace(state, history=())
    states: list[TokenState] = []
    last = max(taps)
    if mode == "fuse_last" and last == model.depth - 1:
        state = model.pass_blocks(state, places, range(last), None, states)
        state = together_again(state)
        model.pass_blocks(state, places, range(last, last + 1), None, states)
    else:
        model.pass_blocks(state, places, range(last + 1), None, states)
    return [states[tap] for tap in taps]


def check_can_fuse(model: StagedViT) -> None:
    """Refuse `fuse_last` where the last block would reduce what was just put back."""
    for index, part in placed(model):
        if index == model.depth - 1:
            raise ValueError(
                f"restore=fuse_last runs the last block on all patches, but {part.by} reduces in it; let it "
                "stand in an earlier block, or choose another restore"
            )


def grid_of_patches(model: StagedViT, state: TokenState, mode: str, norm: bool) -> Tensor:
    """The patches of a state on the original grid: [B, D, rows, columns]"""
    if mode == "fuse_last":
        rows = back_in_place(state.tokens[:, state.prefix :], state.history or ())
        full = rows.transpose(1, 2).unflatten(2, state.grid)
    else:
        full = restore(state, mode)
    return model.vit.norm(full.movedim(1, -1)).movedim(-1, 1) if norm else full


def together_again(state: TokenState) -> TokenState:
    """The state with every pruned token back in its cell, in grid order, as before the first reduction."""
    steps = state.history or ()
    if not steps and not state.moved:
        return replace(state, keep=None)

    def whole(tokens: Tensor, stale: bool) -> Tensor:
        patches = back_in_place(tokens[:, state.prefix :], steps, stale)
        return torch.cat([tokens[:, : state.prefix], patches], dim=1)

    tokens = whole(state.tokens, stale=True)
    fresh = TokenState.start(tokens, state.prefix, state.grid)
    # What adapters gave a token that was away for some blocks is nothing
    return replace(
        state, tokens=tokens, sizes=fresh.sizes, position=fresh.position, source=fresh.source, keep=None,
        trail=tuple(whole(earlier, stale=False) for earlier in state.trail), history=(), moved=False,
    )  # fmt: skip


def back_in_place(patches: Tensor, steps: Sequence[Reduction], stale: bool = True) -> Tensor:
    """Kept tokens back in their cells, and the others as they were when they were pruned, or zero; a token
    fused from what was not kept is left out. [B, M, C] -> [B, N0, C]"""
    for step in reversed(steps):
        slots = _kept_slots(step)  # [B, N]
        there = take_rows(patches, slots.clamp(min=0))
        away = step.before if stale else torch.zeros_like(there)
        patches = torch.where((slots < 0)[..., None], away, there)
    return patches


def _kept_slots(step: Reduction) -> Tensor:
    """Where each token went, -1 for what was dropped or fused; refused where tokens were merged."""
    left = step.after.shape[1] - step.fused  # whole tokens, without the fused one
    slots = torch.where(step.slots >= left, -1, step.slots) if step.fused else step.slots
    if not slots.is_meta:
        members = torch.zeros(slots.shape[0], max(left, 1), device=slots.device, dtype=torch.long)
        members.scatter_add_(1, slots.clamp(min=0), (slots >= 0).long())
        if bool((members > 1).any()):
            raise ValueError(
                "restore=fuse_last puts pruned tokens back, but these were merged into others; use delta, "
                "copy or knn with methods that merge"
            )
    return slots


def logits_on_grid(
    model: StagedViT, state: TokenState, decode: Callable[[Tensor], Tensor], norm: bool
) -> Tensor:
    """The class logits of every patch, decoded on the tokens that are left: [B, K, rows, columns]"""

    def decoded(tokens: Tensor) -> Tensor:
        return decode(model.vit.norm(tokens) if norm else tokens)  # [B, n, K]

    logits = decoded(state.tokens[:, state.prefix :])
    for step in reversed(state.history or ()):
        logits = _spread(logits, step, decoded)
    return logits.transpose(1, 2).unflatten(2, state.grid)


def _spread(logits: Tensor, step: Reduction, decoded: Callable[[Tensor], Tensor]) -> Tensor:
    gone = step.slots < 0  # [B, N]
    there = take_rows(logits, step.slots.clamp(min=0))
    if not gone.is_meta and not bool(gone.any()):
        return there
    return torch.where(gone[..., None], decoded(step.before), there)


@torch.no_grad()
def unreduced_error(restored: Tensor, whole: Tensor) -> float:
    """How far a restored map is from that of the same model without reduction: root mean square of the
    difference, over that of the map itself."""
    precise = at_least_float32(whole.dtype)
    difference, size = (restored - whole).to(precise), whole.to(precise)
    return float(difference.square().mean().sqrt() / size.square().mean().sqrt())
