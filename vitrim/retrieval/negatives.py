"""Hard negatives for matching: pairs that look alike and are not, drawn by their similarity."""

import torch
from torch import Tensor

from vitrim.retrieval.losses import same_image


def hard_negatives(similarity: Tensor, ids: Tensor, key_ids: Tensor) -> tuple[Tensor, Tensor]:
    """For every query one key of another image, drawn from the softmax of their similarities.

    A query all of whose keys are of its own image has none and is left out; so a batch of one image has no
    negatives at all. similarity: [Q, K], divided by the temperature.

    Returns:
        The queries that have one [R], and its number [R].
    """
    same = same_image(ids, key_ids)  # [Q, K]
    queries = (~same).any(1).nonzero()[:, 0]  # [R]
    scores = similarity.detach().to(torch.promote_types(similarity.dtype, torch.float32))
    weights = scores.masked_fill(same, -torch.inf)[queries].softmax(1)
    if not len(queries):
        return queries, queries
    return queries, torch.multinomial(weights, 1)[:, 0]
