"""What retrieval is trained by, as functions of similarities. Written from the papers: CLIP (arXiv
2103.00020), SigLIP (2303.15343), ALBEF and BLIP (2107.07651, 2201.12086).

Letters beside those of `tokens/state.py`: Q queries, K keys. Every row may have several positives: all keys
whose image has the id of the query's.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def same_image(ids: Tensor, key_ids: Tensor) -> Tensor:
    """Which keys belong to the query's image: [Q], [K] -> [Q, K] booleans"""
    return ids[:, None] == key_ids[None]


def hard_targets(ids: Tensor, key_ids: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Equal shares for all positives of a row, which sum to one: [Q, K]"""
    same = same_image(ids, key_ids).to(dtype)
    return same / same.sum(1, keepdim=True)


def soft_targets(teacher: Tensor, ids: Tensor, key_ids: Tensor, alpha: float) -> Tensor:
    """alpha softmax(teacher) + (1 - alpha) hard targets; `teacher` [Q, K] is divided by the temperature."""
    return alpha * teacher.softmax(1) + (1 - alpha) * hard_targets(ids, key_ids, teacher.dtype)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over queries of -sum targets log softmax(logits): [Q, K], [Q, K] -> scalar"""
    return -(logits.log_softmax(1) * targets).sum(1).mean()


def infonce(images: Tensor, texts: Tensor, ids: Tensor, temperature: Tensor | float) -> Tensor:
    """CLIP's loss with several positives, both ways, the mean of the two. images, texts: unit rows [B,
    C]"""
    logits = images @ texts.T / temperature  # [B, B]
    targets = hard_targets(ids, ids, logits.dtype)
    return (cross_entropy(logits, targets) + cross_entropy(logits.T, targets)) / 2


def siglip(images: Tensor, texts: Tensor, ids: Tensor, log_scale: Tensor, bias: Tensor) -> Tensor:
    """-1/B sum_ij log sigmoid(z_ij (exp(log_scale) x_i y_j + bias)), z = 1 for equal ids, else -1."""
    logits = images @ texts.T * log_scale.exp() + bias  # [B, B]
    signs = torch.where(same_image(ids, ids), 1.0, -1.0).to(logits.dtype)
    return -F.logsigmoid(signs * logits).sum() / len(ids)


def momentum_contrast(
    features: tuple[Tensor, Tensor],
    keys: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    ids: Tensor,
    key_ids: Tensor,
    temperature: Tensor | float,
    alpha: float,
) -> Tensor:
    """BLIP's ITC: features against keys of the momentum towers, soft targets, both ways, the mean.

    Args:
        features: images and texts of the towers that learn, unit rows [B, C].
        keys: images and texts of the momentum towers, this batch and the queue behind it [K, C].
        teacher: images and texts of the momentum towers, this batch [B, C].
        ids, key_ids: image ids [B] and [K].
    """
    images, texts = features
    key_images, key_texts = keys
    with torch.no_grad():
        to_texts = soft_targets(teacher[0] @ key_texts.T / temperature, ids, key_ids, alpha)
        to_images = soft_targets(teacher[1] @ key_images.T / temperature, ids, key_ids, alpha)
    there = cross_entropy(images @ key_texts.T / temperature, to_texts)
    back = cross_entropy(texts @ key_images.T / temperature, to_images)
    return (there + back) / 2


def ramped(alpha: float, progress: float) -> float:
    """alpha, grown linearly from zero during the first epoch; `progress` counts epochs."""
    return alpha * min(1.0, max(0.0, progress))


def matching(positive: Tensor, negative: Tensor | None) -> Tensor:
    """ITM: two-way cross entropy of [P, 2] logits of pairs that match (class 1) and [N, 2] of pairs that do
    not; None where a batch offers no negatives."""
    ones = positive.new_ones(len(positive), dtype=torch.long)
    if negative is None or not len(negative):
        return F.cross_entropy(positive, ones)
    zeros = ones.new_zeros(len(negative))
    return F.cross_entropy(torch.cat([positive, negative]), torch.cat([ones, zeros]))
