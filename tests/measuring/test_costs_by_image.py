"""Costs where every image keeps its own number of tokens are those of the counts that images have."""

import pytest
import torch
from toys import images, toy, with_random_predictors

from vitrim import DynamicViT, compose, costs, costs_on_images


@pytest.mark.parametrize("at", [(1, 3), (2, 5)])  # the second in the last block, where nothing is learned
def test_costs_of_predictors_are_those_of_fixed_counts(at: tuple[int, int]) -> None:
    method = DynamicViT(at=at, budget="threshold", levels=(0.5, 0.5))
    model = with_random_predictors(compose(toy("vit", depth=6), method))
    factors = torch.logspace(-1, 1.5, 3, dtype=torch.float64).view(-1, 1, 1, 1)
    found = costs_on_images(model, [images(model, batch=3) * factors])
    assert found.blocks == at and len(set(found.gmacs.tolist())) > 1
    for tokens, gmacs in zip(found.tokens, found.gmacs, strict=True):
        keep = tuple(min(1.0, (int(tokens[block]) + 0.5) / 64) for block in at)  # rounds down to the count
        fixed = compose(toy("vit", depth=6), DynamicViT(at=at, keep=keep))
        assert gmacs == pytest.approx(costs(fixed).gmacs, rel=1e-9)
