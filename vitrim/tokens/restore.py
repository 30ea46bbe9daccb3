"""Back to the full grid: what every original patch would be, from the tokens left. For dense outputs."""

import torch
from torch import Tensor

from vitrim.checks import check_one_of
from vitrim.tokens.state import Reduction, TokenState, at_least_float32, take_rows, without_autocast

MODES = ("delta", "copy", "knn")
NEIGHBOURS, SHARPNESS = 20, 0.01  # of "knn", the constants of token reconstruction in Expedit


def restore(
    state: TokenState, mode: str = "delta", values: Tensor | None = None, dropped: str = "stale"
) -> Tensor:
    """The patch tokens of a reduced state on the original grid: [B, D, rows, columns] (frames before rows).

    Every reduction is undone in turn, the last one first. With x the tokens just before it, y those just
    after it, and z what became of y since:

        delta   x_i + (z - y)_a(i)     what the blocks since added to the token that patch i went to
        copy    z_a(i)                 a plain copy of that token
        knn     sum_j w_ij z_j         w_ij ~ exp(-0.01 |x_i - y_j|^2) over the 20 nearest j, normalised

    A token that was alone in its place comes back bit for bit, under "delta" and "copy". A dropped token is
    x_i as it was when it was dropped, or zero; "knn" fills it from its neighbours. Gradients pass through all
    terms.

    Args:
        state: of `model.run(images, history=True)`. Without a history only "copy" works, if nothing was
            dropped.
        mode: "delta", "copy" or "knn".
        values: [B, M, C], restored in place of the patch tokens, such as logits for each token; "copy" and
            "knn" only.
        dropped: "stale" or "zero".

    >>> logits, state = model.run(images, history=True)
    >>> features = restore(state)  # [B, D, rows, columns]
    """
    check_one_of("restore", "mode", mode, MODES)
    check_one_of("restore", "dropped", dropped, ("stale", "zero"))
    patches = state.tokens[:, state.prefix :] if values is None else values
    if patches.shape[:2] != (state.tokens.shape[0], state.count):
        raise ValueError(
            f"restore: values must be [B, {state.count}, C] for this state, got {list(patches.shape)}"
        )
    if values is not None and mode == "delta":
        raise ValueError(
            "restore: delta adds to the model's own tokens; restore other values with copy or knn"
        )
    if values is not None and dropped == "stale" and mode == "copy":
        dropped = "zero"  # there are no earlier values
    if state.history is None:
        patches = _without_history(state, patches, mode)
    for step in reversed(state.history or ()):
        patches = _nearest(patches, step) if mode == "knn" else _undo(patches, step, mode, dropped)
    return patches.transpose(1, 2).unflatten(2, state.grid)


def _undo(patches: Tensor, step: Reduction, mode: str, dropped: str) -> Tensor:
    """One reduction back by its own map: [B, M, C] -> [B, N, C]."""
    place = step.slots.clamp(min=0)  # [B, N]
    there = take_rows(patches, place)
    if mode == "delta":
        moved = step.before + take_rows(patches - step.after, place)
        alone = (step.before == take_rows(step.after, place)).all(-1, keepdim=True)  # moved bit for bit
        there = torch.where(alone, there, moved)
    stale = torch.zeros_like(there) if dropped == "zero" else step.before
    return torch.where((step.slots < 0)[..., None], stale, there)


def _nearest(patches: Tensor, step: Reduction) -> Tensor:
    """One reduction back by likeness of the tokens before it to those after it: [B, M, C] -> [B, N, C]."""
    precise = at_least_float32(step.before.dtype)
    with without_autocast(patches.device):
        distance = torch.cdist(step.before.to(precise), step.after.to(precise)) ** 2  # [B, N, M]
        if step.keep is not None:
            distance = distance.masked_fill((step.keep == 0)[:, None], torch.inf)  # padding
        near = distance.topk(min(NEIGHBOURS, distance.shape[2]), dim=2, largest=False)
        weights = (-SHARPNESS * near.values).softmax(-1).to(patches.dtype)  # [B, N, k]
        spread = torch.zeros_like(distance, dtype=patches.dtype).scatter(2, near.indices, weights)
        return spread @ patches


def _without_history(state: TokenState, patches: Tensor, mode: str) -> Tensor:
    """`copy` by where every patch lives now, for states that kept no history."""
    if not state.moved:
        return patches
    if mode != "copy":
        raise ValueError(
            f"restore: {mode} needs what every reduction did; get the state from run(images, history=True)"
        )
    if bool((state.source < 0).any()):
        raise ValueError("restore: some patches were dropped; get the state from run(images, history=True)")
    return take_rows(patches, state.source)
