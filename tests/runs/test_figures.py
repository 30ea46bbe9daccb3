"""Figures of several labels and of numbers: what torchmetrics says of the same answers."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics.functional import mean_absolute_error, r2_score
from torchmetrics.functional.classification import binary_average_precision, binary_stat_scores

from vitrim.runs.kinds import KINDS


def figures(task: str, answers: Tensor, targets: Tensor) -> Any:
    model = SimpleNamespace(classes=tuple(map(str, range(targets.shape[1]))), num_classes=targets.shape[1])
    return KINDS[task].figures(model, answers, targets, torch.zeros(len(targets)))  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [3, 10, 10**6])  # few: many pictures share a probability
@pytest.mark.parametrize("often", [0.02, 0.5, 0.98])
def test_labels(steps: int, often: float) -> None:
    draw = torch.Generator().manual_seed(steps)
    answers = (torch.rand(200, 5, generator=draw) * steps).round() / steps
    targets = (torch.rand(200, 5, generator=draw) < often).float()
    targets[0] = 1
    found = figures("multilabel", answers, targets)
    for place, part in enumerate(found.parts):
        ours, truth = answers[:, place], targets[:, place].long()
        assert part["average_precision"] == pytest.approx(
            binary_average_precision(ours, truth).item(), abs=1e-6
        )
        right, false, _, missed, _ = binary_stat_scores((ours >= 0.5).long(), truth).tolist()
        assert part["images"] == right + missed
        assert part["recall"] == right / (right + missed)
        assert part["precision"] == (right / (right + false) if right + false else None)
        assert part["f1"] == 2 * right / (2 * right + false + missed)


def test_one_picture_and_a_label_that_never_occurs() -> None:
    found = figures("multilabel", torch.tensor([[0.2, 0.9]]), torch.tensor([[1.0, 0.0]]))
    assert [part["average_precision"] for part in found.parts] == [1.0, None] and found.map == 1.0


@pytest.mark.parametrize("noise", [0.1, 1.0, 3.0])
def test_numbers(noise: float) -> None:
    draw = torch.Generator().manual_seed(1)
    targets = torch.randn(300, 2, generator=draw) * torch.tensor([1.0, 1000.0])
    answers = targets + noise * torch.randn(300, 2, generator=draw) * targets.std(0)
    found = figures("regress", answers, targets)
    for place, part in enumerate(found.parts):
        ours, truth = answers[:, place].double(), targets[:, place].double()
        assert part["mae"] == pytest.approx(mean_absolute_error(ours, truth).item())
        assert part["r2"] == pytest.approx(r2_score(ours, truth).item())


def test_small_numbers_far_from_zero_are_explained_like_any_others() -> None:
    """Where torchmetrics takes small errors for none at all."""
    targets = torch.arange(10.0)[:, None]
    answers = targets + torch.tensor([1.0, -1.0]).repeat(5)[:, None]
    usual = figures("regress", answers, targets).r2
    assert usual == pytest.approx(1 - 10 / 82.5)
    assert figures("regress", answers.double() * 1e-4 + 7, targets.double() * 1e-4 + 7).r2 == pytest.approx(
        usual
    )
    assert figures("regress", answers, torch.ones(10, 1)).r2 is None
