"""Figures worked out by hand, and what must hold whatever the masks."""

import pytest
import torch
from scipy import ndimage

from vitrim.dense.classes import IGNORE
from vitrim.dense.metrics import Scores, rim, rim_width

NAMES = ("ground", "disc", "bar", "absent")


def test_a_case_worked_out_by_hand() -> None:
    """3 x 3 pixels, one of them without a label, one class nowhere:

        truth   0 0 1      said   0 1 1
                0 1 1             0 1 2
                2 2 -             2 0 1

    0: 2 right of 3, said once too often: 2 / 4.   1: 2 right of 3, one too many: 2 / 4.
    2: 1 right of 2, one too many: 1 / 3.   Right in all: 5 of 8.
    """
    scores = Scores(4)
    scores.update(
        torch.tensor([[0, 0, 1], [0, 1, 1], [2, 2, IGNORE]]), torch.tensor([[0, 1, 1], [0, 1, 2], [2, 0, 1]])
    )
    found = scores.metrics(NAMES)
    assert [part["iou"] for part in found.parts] == [2 / 4, 2 / 4, 1 / 3, None]
    assert [part["accuracy"] for part in found.parts] == [2 / 3, 2 / 3, 1 / 2, None]
    assert [part["pixels"] for part in found.parts] == [3, 3, 2, 0]
    assert found.miou == pytest.approx((1 / 2 + 1 / 2 + 1 / 3) / 3)
    assert found.macc == pytest.approx((2 / 3 + 2 / 3 + 1 / 2) / 3)
    assert found.aacc == 5 / 8
    # Every pixel is within one of a contour here: the edge of the image or another class
    assert found.boundary_iou == pytest.approx(found.miou)


def test_figures_are_of_all_pixels_not_means_over_images() -> None:
    """A class that is said in one image but is only in the other."""
    scores = Scores(2)
    scores.update(torch.zeros(2, 2).long(), torch.tensor([[0, 0], [0, 1]]))
    scores.update(torch.ones(1, 4).long(), torch.tensor([[1, 1, 1, 0]]))
    found = scores.metrics(("a", "b"))
    assert [part["iou"] for part in found.parts] == [3 / 5, 3 / 5] and found.images == 2
    # Said where it never is: wrong, not undefined
    lonely = Scores(2)
    lonely.update(torch.zeros(2, 2).long(), torch.tensor([[0, 0], [0, 1]]))
    assert [part["iou"] for part in lonely.metrics(("a", "b")).parts] == [3 / 4, 0]


def test_the_rim_is_what_erosion_takes_away() -> None:
    generator = torch.Generator().manual_seed(0)
    blobs = torch.nn.functional.avg_pool2d(torch.rand(1, 3, 40, 31, generator=generator), 7, 1, 3)[0] > 0.5
    for distance in (1, 3):
        for mask, found in zip(blobs.numpy(), rim(blobs, distance).numpy(), strict=True):
            eroded = ndimage.binary_erosion(mask, ndimage.generate_binary_structure(2, 2), distance)
            assert (found == (mask & ~eroded)).all()
    assert rim_width(224, 398) == 9 and rim_width(3, 3) == 1


def test_the_boundary_is_told_from_the_inside() -> None:
    """A square that is right but for a shift of two pixels: a loss at its rim, hardly any inside."""
    labels, moved = torch.zeros(120, 120).long(), torch.zeros(120, 120).long()
    labels[20:100, 20:100] = 1
    moved[22:102, 20:100] = 1
    scores, perfect = Scores(2), Scores(2)
    scores.update(labels, moved)
    found = scores.metrics(("ground", "square"))
    assert found.miou > 0.93 and found.boundary_iou < 0.75
    labels[18:20] = IGNORE  # a rim without labels, whatever is said there
    perfect.update(labels, torch.where(labels == IGNORE, 1, labels))
    assert perfect.metrics(("ground", "square")).boundary_iou == 1


def test_agreement_and_share_of_another_model() -> None:
    labels = torch.tensor([[0, 1], [1, IGNORE]])
    one, other = Scores(2), Scores(2)
    other.update(labels, torch.tensor([[0, 1], [1, 0]]))
    one.update(labels, torch.tensor([[0, 1], [0, 1]]), by_other=torch.tensor([[0, 1], [1, 0]]))
    found, whole = one.metrics(("a", "b")), other.metrics(("a", "b"))
    assert found.agreement == 2 / 3 and found.relative_to(whole) == 1 / 2
    assert "agreement" not in whole.to_json() and whole.relative_to(found) == 2


def test_labels_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="labels hold class 3, but there are 3 classes, from 0"):
        Scores(3).update(torch.tensor([[3]]), torch.tensor([[0]]))
    with pytest.raises(ValueError, match=r"labels have \(1, 1\) pixels, but \(2, 1\) were predicted"):
        Scores(3).update(torch.tensor([[0]]), torch.tensor([[0], [0]]))
    assert Scores(2).metrics(("a", "b")).miou is None
