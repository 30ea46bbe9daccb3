"""RepAdapter computes its formula, and folds into whatever reads the norm."""

from pathlib import Path

import pytest
import torch
import tuned
from toys import toy

from vitrim import RepAdapter, compose
from vitrim.methods.tuners.repadapter import GroupedBottleneck


def test_the_formula() -> None:
    settings = RepAdapter(width=6, groups=3, scale=0.5)
    adapter = GroupedBottleneck(12, settings, like=torch.empty(0, dtype=torch.float64))
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    hidden = x @ adapter.down.weight.T + adapter.down.bias
    expected = torch.empty_like(x)
    for channel in range(12):  # channels 0-3 read hidden 0-1, 4-7 read 2-3, 8-11 read 4-5
        group = channel // 4
        product = hidden[..., 2 * group : 2 * group + 2] @ adapter.up.weight[channel]
        expected[..., channel] = x[..., channel] + 0.5 * (product + adapter.up.bias[channel])
    torch.testing.assert_close(adapter(x), expected)
    matrix, vector = adapter.dense()
    torch.testing.assert_close(x @ matrix.T + vector, expected)


METHODS = [
    RepAdapter(width=4),
    RepAdapter(width=6, groups=3, scale=0.1),
    RepAdapter(width=2, groups=1, before="attention"),
]


@pytest.mark.parametrize(
    "family", ["vit", "dinov2-registers", "siglip", "dinov3", "dinov3-qkvb", "eva02", "pe-core"]
)
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_folds_exactly(method: RepAdapter, family: str) -> None:
    tuned.check_folds(method, family=family)


def test_folds_exactly_with_fewer_tokens() -> None:
    tuned.check_folds(METHODS[0], "EViT(keep=0.5, at=(1, 4))")
    tuned.check_folds(METHODS[1], "ToMe(r=3)", family="eva02")


@pytest.mark.parametrize("family", ["vit", "eva02"])
def test_the_start_is_the_backbone(family: str) -> None:
    tuned.check_starts_unchanged(METHODS[0], family)
    tuned.check_matters(METHODS[0], family)


@pytest.mark.parametrize("family", ["vit", "eva02"])
def test_training_moves_adapters_and_head_only(family: str) -> None:
    tuned.check_training(METHODS[0], "EViT(keep=0.5, at=(2,))", family=family)


@pytest.mark.parametrize("family", ["vit", "dinov3", "eva02"])
def test_saving_and_loading(tmp_path: Path, family: str) -> None:
    tuned.check_round_trip(METHODS[0], tmp_path, family)


def test_layers_that_read_one_norm_share_an_adapter() -> None:
    fused, split = (compose(toy(family), RepAdapter(width=4)) for family in ("vit", "eva02"))
    count = 2 * 12 * (24 * 4 + 4 + 24 * 2 + 24)
    for model in (fused, split):
        assert sum(p.numel() for n, p in model.trained().items() if "head" not in n) == count
    names = [name for name in split.trained() if name.startswith("vit.blocks.3.")]
    assert {name.split(".adapter")[0] for name in names} == {
        "vit.blocks.3.attn.q_proj",
        "vit.blocks.3.mlp.fc1_g",
    }


def test_goes_with_tuners_of_other_layers() -> None:
    tuned.check_folds(RepAdapter(width=4, before="attention"), "LoRA(rank=2, roles=('mlp_in', 'mlp_out'))")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"width": 8, "groups": 3}, "groups=3 does not divide width=8"),
        ({"before": ()}, "before is empty"),
        ({"before": ("norm",)}, "before must be one of 'attention', 'mlp'"),
        ({"scale": "big"}, "scale must be a number"),
    ],
)
def test_bad_settings_are_refused(settings: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"RepAdapter: {sentence}"):
        RepAdapter(**settings)


def test_groups_must_divide_the_backbone() -> None:
    with pytest.raises(ValueError, match="groups=5 does not divide the backbone's width 24"):
        compose(toy(), RepAdapter(width=5, groups=5))
