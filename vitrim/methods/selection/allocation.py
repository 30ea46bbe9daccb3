"""From scores to the weights that train: plain functions of tensors, ties broken by index throughout.

A score matrix is [O, I]: one row per neuron (output), one column per input.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def top_counts(scores: Mapping[str, Tensor], percent: float) -> dict[str, int]:
    """How many of the top `percent` of all scores together lie in each matrix.

    One pass with a running threshold: memory for the chosen scores, never for a sort of all of them. Equal
    scores at the threshold count for the matrices that come first.
    """
    wanted = max(1, math.floor(percent / 100 * sum(score.numel() for score in scores.values())))
    threshold = _smallest_of_largest(list(scores.values()), wanted)
    counts = {name: int((score > threshold).sum()) for name, score in scores.items()}
    left = wanted - sum(counts.values())
    for name, score in scores.items():
        tied = min(left, int((score == threshold).sum()))
        counts[name] += tied
        left -= tied
    return counts


def _smallest_of_largest(parts: Sequence[Tensor], wanted: int) -> Tensor:
    """The `wanted`-th largest number of all parts."""
    kept = parts[0].new_empty(0)
    for part in parts:
        flat = part.flatten()
        if kept.numel() == wanted:
            flat = flat[flat > kept.min()]
        kept = torch.cat([kept, flat.to(kept.device)])
        if kept.numel() > wanted:
            kept = kept.topk(wanted, sorted=False).values
    return kept.min()


def layer_totals(counts: Sequence[int], layers: Sequence[int]) -> list[int]:
    """Counts summed over the matrices of one layer, where matrix i belongs to layer `layers[i]`; one for each
    matrix.
    """
    totals = dict.fromkeys(layers, 0)
    for count, layer in zip(counts, layers, strict=True):
        totals[layer] += count
    return [totals[layer] for layer in layers]


def connections_per_neuron(
    totals: Sequence[int], least: int, rounding: str = "floor", empty: str = "one"
) -> list[int]:
    """C = max(1, w / min(w) * least), before the cap at a matrix's fan-in (TR-PTS, eq. 5).

    `totals` are the layers' counts of top scores; their shares w have the same ratios, and whole numbers
    round the same everywhere. min(w) is the smallest w above zero. Layers with w = 0 get one connection, as
    the equation says, or none with `empty="none"`.
    """
    smallest = min(total for total in totals if total > 0)
    found = []
    for total in totals:
        added = smallest if rounding == "nearest" else 0  # half of 2 * smallest
        whole = (2 * total * least + added) // (2 * smallest)
        found.append(0 if total == 0 and empty == "none" else max(1, whole))
    return found


def best_inputs(score: Tensor, count: int) -> Tensor:
    """The `count` columns of the largest scores in every row, ascending: [O, I] -> [O, count]."""
    if count == 0:
        return torch.empty(score.shape[0], 0, dtype=torch.long, device=score.device)
    last = score.topk(count, dim=1).values.min(dim=1, keepdim=True).values  # [O, 1]
    above, tied = score > last, score == last
    room = count - above.sum(1, keepdim=True)  # [O, 1]
    chosen = above | (tied & (tied.cumsum(1) <= room))
    return chosen.nonzero()[:, 1].view(score.shape[0], count)
