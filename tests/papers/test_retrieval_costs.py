"""FPET's Table A7, the columns that can be derived, and the formula of a pair against what is counted."""

import pytest
import torch

from vitrim.measuring.counting import MacCounter, counting
from vitrim.papers.retrieval_costs import pair_macs, retrieval_costs


def test_blip_with_and_without_the_merge_to_the_digit() -> None:
    plain, merged = retrieval_costs(merged=False), retrieval_costs(merged=True)
    assert (plain.image_tokens, merged.image_tokens) == (577, 289)
    assert (plain.image, merged.image) == (55_483_582_464, 42_017_015_808)
    assert (plain.pair, merged.pair) == (12_030_861_312, 7_768_203_264)
    assert plain.pair / plain.pair_kept > 3
    assert merged.pair_kept < plain.pair_kept < merged.pair


def test_the_formula_of_a_pair_is_what_the_text_tower_runs() -> None:
    pytest.importorskip("transformers")
    from small_blip import DEPTH, ENC, captions, small_blip

    from vitrim.retrieval.crossing import CrossModalText

    blip = small_blip()
    width = blip.config.text_config.hidden_size
    layers = blip.text_encoder.encoder.layer
    for layer in layers:  # the formula has BERT's feed-forward of four widths
        layer.intermediate.dense = torch.nn.Linear(width, 4 * width).double()
        layer.output.dense = torch.nn.Linear(4 * width, width).double()
    text = CrossModalText(blip.text_encoder, ENC, 6).eval()
    ids, mask = captions(1)
    tokens = torch.randn(1, 17, width, dtype=torch.float64)
    counter = MacCounter()
    with counting(counter):
        text.fuse(ids, mask, text.keys_values(tokens), None)
    norms = 5 * (1 + 3 * DEPTH) * ids.shape[1] * width
    assert counter.total - norms == pair_macs(width, DEPTH, ids.shape[1], 17)
