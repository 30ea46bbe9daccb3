"""Recall by hand: ties, several captions an image, pairs that were not scored."""

import pytest
import torch

from vitrim.retrieval.ranking import first_hits, ranked, recalls


def test_identity_is_found_at_once_both_ways() -> None:
    scores = torch.eye(12, dtype=torch.float64)
    found = recalls(scores, scores.T, range(12), range(12))
    assert found.image_to_text == found.text_to_image == (1.0, 1.0, 1.0)
    assert found.mean == 1.0


def test_a_case_by_hand_with_two_captions_each() -> None:
    scores = torch.tensor(
        [  # captions of image 0, 0, 1, 1
            [0.1, 0.8, 0.9, 0.0],  # a caption of the other image first: rank 1
            [0.5, 0.4, 0.3, 0.6],  # its second caption first: rank 0
        ],
        dtype=torch.float64,
    )
    found = recalls(scores, scores.T, [0, 1], [0, 0, 1, 1])
    assert found.image_to_text == (0.5, 1.0, 1.0)
    assert found.text_to_image == (0.5, 1.0, 1.0)  # captions 1 and 3 find theirs first, 0 and 2 do not
    assert found.mean == pytest.approx(5 / 6)


def test_of_equal_scores_the_first_stands_first() -> None:
    scores = torch.zeros(1, 6, dtype=torch.float64)
    assert ranked(scores).tolist() == [[0, 1, 2, 3, 4, 5]]
    assert first_hits(scores, torch.tensor([7]), torch.tensor([1, 2, 3, 7, 7, 1])).tolist() == [3]


def test_what_was_not_scored_stands_behind_what_was() -> None:
    scores = torch.tensor([[-torch.inf, -300.0, -torch.inf]], dtype=torch.float64)
    assert ranked(scores).tolist() == [[1, 0, 2]]


def test_what_cannot_be_ranked_is_refused() -> None:
    broken = torch.tensor([[0.0, torch.nan]])
    with pytest.raises(ValueError, match="not numbers"):
        ranked(broken)
    with pytest.raises(ValueError, match="query 1 has nothing in the gallery"):
        first_hits(torch.zeros(2, 2), torch.tensor([0, 5]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="do not fit 2 images and 3 captions"):
        recalls(torch.zeros(2, 2), torch.zeros(2, 2), [0, 1], [0, 1, 1])
