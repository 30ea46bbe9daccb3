"""Every block's share of the top scores: how much of it the task needs changed."""

from typing import TYPE_CHECKING

from vitrim.methods.selection.allocation import top_counts
from vitrim.methods.selection.candidates import candidates
from vitrim.methods.selection.scores import LabelledImages, measure_scores
from vitrim.methods.tuners.sparse_delta import SparseDeltaLinear

if TYPE_CHECKING:
    from vitrim.network.method import Method
    from vitrim.network.model import StagedViT

MEASURED_TOP = 1.0  # percent of all weights


def block_shares(model: "StagedViT", batches: LabelledImages, by: "Method") -> tuple[float, ...]:
    """Every block's share of the top scores: as the weights of this model were chosen, else measured now."""
    known = chosen_shares(model)
    if known is not None:
        return known
    counts = top_counts(measure_scores(model, batches, by).values, MEASURED_TOP)
    found = [0] * model.depth
    for candidate in candidates(model):
        found[candidate.block] += counts[candidate.name]
    return tuple(count / sum(found) for count in found)


def chosen_shares(model: "StagedViT") -> tuple[float, ...] | None:
    """Every block's share of the top scores, where weights were chosen by it; None elsewhere."""
    found = [0.0] * model.depth
    for candidate in candidates(model):
        layer = candidate.layer
        if isinstance(layer, SparseDeltaLinear):
            found[candidate.block] += layer.entries.share.item()
    return tuple(found) if any(found) else None
