"""Attentive pooling: the official block's values and gradients, and what sizes and masks mean to it."""

import pytest
import torch
from clips import OFFICIAL, fill
from golden import Golden, assert_close
from toys import wake

from vitrim.video.pooling import AttentivePooling, mean_by_size


def test_the_official_block_has_the_same_values_and_gradients():
    golden = Golden("dyt_video_pool_t4_n17_d64")
    config = golden.about["config"]
    pool = fill(AttentivePooling(config["dim"], config["num_heads"], torch.empty(0).double()), golden)
    tokens = golden.images().requires_grad_()  # [B, T*n, D]
    pooled = pool(tokens)
    assert_close(pooled, golden["pooled"])
    logits = torch.nn.functional.linear(pooled, golden.weight("head.weight"), golden.weight("head.bias"))
    assert_close(logits, golden["logits"])
    logits.square().mean().backward()
    assert tokens.grad is not None
    for index, official in enumerate(golden.about["grad_names"]):
        ours = next((name for name, theirs in OFFICIAL.items() if theirs == official), None)
        if ours is None:
            continue  # the classifier
        gradient = pool.get_parameter(ours).grad
        assert gradient is not None
        expected = golden["grad_norm"][index]
        if expected < 1e-12:
            assert gradient.norm() < 1e-12  # zero by algebra
        else:
            assert_close(gradient.norm(), expected)
            assert_close(gradient.flatten()[:8], golden["grad_first8"][index], 1e-8)


def test_it_holds_what_the_design_says():
    pool = AttentivePooling(768, 12, torch.empty(0, device="meta"))
    assert sum(weight.numel() for weight in pool.parameters()) == 2_366_976


def test_a_token_that_stands_for_two_counts_twice_and_a_masked_one_not_at_all():
    pool = wake(AttentivePooling(24, 4, torch.empty(0).double()))
    tokens = torch.randn(2, 5, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    twice = torch.cat([tokens, tokens[:, :1]], 1)
    sizes = torch.tensor([[2.0, 1, 1, 1, 1]]).double().expand(2, -1)
    assert_close(pool(tokens, sizes.log()), pool(twice), 1e-12)
    assert_close(mean_by_size(tokens, sizes), twice.mean(1), 1e-12)
    masked = torch.tensor([[1.0, 1, 1, 0, 0]]).double().expand(2, -1)
    assert_close(pool(tokens, masked.log()), pool(tokens[:, :3]), 1e-12)
    assert_close(mean_by_size(tokens, masked), tokens[:, :3].mean(1), 1e-12)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="5 heads do not divide the width 24"):
        AttentivePooling(24, 5, torch.empty(0))
