"""The losses against what their papers print, the queue's ring, and negatives that are negative."""

import math

import pytest
import torch

from vitrim.retrieval.losses import (
    hard_targets,
    infonce,
    matching,
    momentum_contrast,
    ramped,
    siglip,
    soft_targets,
)
from vitrim.retrieval.negatives import hard_negatives
from vitrim.retrieval.queue import FeatureQueue

IDS = torch.tensor([4, 4, 9, 2])


def unit(rows: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(
        torch.randn(rows, 5, generator=generator, dtype=torch.float64), dim=1
    )


def test_targets_of_captions_of_one_image_share_and_sum_to_one() -> None:
    targets = hard_targets(IDS, IDS, torch.float64)
    assert targets[0].tolist() == [0.5, 0.5, 0.0, 0.0]
    assert targets[2].tolist() == [0.0, 0.0, 1.0, 0.0]
    soft = soft_targets(torch.randn(4, 4, dtype=torch.float64), IDS, IDS, 0.4)
    assert torch.allclose(soft.sum(1), torch.ones(4, dtype=torch.float64))


def test_infonce_without_repeated_images_is_cross_entropy_both_ways() -> None:
    images, texts = unit(4, 0), unit(4, 1)
    logits = images @ texts.T / 0.1
    there, back = (torch.nn.functional.cross_entropy(each, torch.arange(4)) for each in (logits, logits.T))
    assert infonce(images, texts, torch.arange(4), 0.1).item() == pytest.approx((there + back).item() / 2)


def test_siglip_is_its_double_sum() -> None:
    images, texts = unit(4, 0), unit(4, 1)
    scale, bias = torch.tensor(math.log(10.0)), torch.tensor(-10.0)
    total = 0.0
    for i in range(4):
        for j in range(4):
            z = 1 if IDS[i] == IDS[j] else -1
            total += math.log(1 + math.exp(-z * (10 * float(images[i] @ texts[j]) - 10)))
    assert siglip(images, texts, IDS, scale, bias).item() == pytest.approx(total / 4)


def test_momentum_contrast_by_hand() -> None:
    features, keys, alpha = (unit(2, 0), unit(2, 1)), (unit(3, 2), unit(3, 3)), 0.3
    teacher = (keys[0][:2], keys[1][:2])
    ids, key_ids = torch.tensor([0, 1]), torch.tensor([0, 1, 1])
    hard = [[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]
    total = 0.0
    for way in (0, 1):
        other = keys[1 - way]
        for row in range(2):
            target = (teacher[way][row] @ other.T / 0.07).softmax(0) * alpha
            target = target + (1 - alpha) * torch.tensor(hard[row], dtype=torch.float64)
            total -= float((target * (features[way][row] @ other.T / 0.07).log_softmax(0)).sum())
    found = momentum_contrast(features, keys, teacher, ids, key_ids, 0.07, alpha)
    assert found.item() == pytest.approx(total / 4)


def test_the_momentum_towers_opinion_grows_during_the_first_epoch_alone() -> None:
    assert [ramped(0.4, progress) for progress in (0, 0.5, 1, 7)] == [0.0, 0.2, 0.4, 0.4]


def test_matching_reads_class_one_as_a_match() -> None:
    sure, unsure = torch.tensor([[-9.0, 9.0]]), torch.tensor([[9.0, -9.0]])
    assert matching(sure, unsure).item() < 1e-6
    assert matching(unsure, sure).item() > 10
    assert matching(sure, None).item() < 1e-6


def test_the_queue_runs_over_its_end_and_forgets_the_oldest() -> None:
    queue = FeatureQueue(1, 5).double()
    for first in (0, 2, 4, 6):
        values = torch.tensor([[first], [first + 1]], dtype=torch.float64)
        queue.push(values, -values, torch.tensor([first, first + 1]))
        known = queue.filled()[2].tolist()
        assert sorted(known) == list(range(max(0, first - 3), first + 2))
    images, texts, ids = queue.filled()
    assert ids.tolist() == [5, 6, 7, 3, 4]
    assert images[:, 0].tolist() == ids.tolist() and torch.equal(texts, -images)
    with pytest.raises(ValueError, match="at least the batch size"):
        queue.push(torch.zeros(6, 1), torch.zeros(6, 1), torch.arange(6))


def test_negatives_never_share_the_image_and_follow_similarity() -> None:
    torch.manual_seed(0)
    ids = torch.tensor([0, 0, 1, 2, 2, 3])
    scores = torch.full((6, 6), -1e6, dtype=torch.float64)  # so far apart that a softmax of all underflows
    scores += 1e7 * (ids[:, None] == ids)
    for _ in range(50):
        queries, found = hard_negatives(scores, ids, ids)
        assert queries.tolist() == list(range(6))
        assert not (ids[found] == ids).any()
    near = torch.zeros(6, 6, dtype=torch.float64)
    near[:, 3] = 50.0
    _, found = hard_negatives(near, ids, ids)
    assert found[:3].tolist() == [3, 3, 3]


def test_a_batch_of_one_image_has_no_negatives() -> None:
    ids = torch.tensor([3, 3, 3])
    queries, found = hard_negatives(torch.zeros(3, 3), ids, ids)
    assert len(queries) == len(found) == 0
