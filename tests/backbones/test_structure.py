"""A module's structure is written down so that the same is built again, or not claimed to be known."""

from typing import Any

import pytest
import timm
import torch
from torch import nn
from toys import FAMILIES, MORE_FAMILIES, images, toy

from vitrim.backbones.structure import build, describe, structure_digest

OPTIONS: list[dict[str, Any]] = [
    {}, {"num_classes": 0}, {"in_chans": 4}, {"global_pool": "avg"}, {"global_pool": "avgmax"},
    {"reg_tokens": 4}, {"depth": 3}, {"dynamic_img_size": True}, {"act_layer": "relu"},
    {"act_layer": "quick_gelu"},
    {"qkv_bias": False}, {"init_values": 1e-5}, {"fc_norm": True},
    {"global_pool": "avg", "pool_include_prefix": True}, {"img_size": (32, 64)}, {"mlp_ratio": 2.7},
    {"qk_norm": True}, {"scale_mlp_norm": True}, {"pos_embed": "none"}, {"final_norm": False},
    {"pre_norm": True}, {"num_heads": 4}, {"no_embed_class": True}, {"proj_bias": False},
    {"dynamic_img_size": True, "dynamic_img_pad": True},
]  # fmt: skip


def check(vit: Any) -> bool:
    described = describe(vit)
    if "arguments" not in described:
        return False
    twin = build(described).to(next(vit.parameters()).dtype).eval()
    twin.load_state_dict(vit.state_dict(), strict=True)
    batch = images(vit)
    with torch.no_grad():
        assert torch.equal(twin(batch), vit(batch))
    assert structure_digest(twin) == structure_digest(vit)
    return True


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_models_made_with_options(options: dict[str, Any]) -> None:
    vit = timm.create_model("vit_tiny_patch16_224", **{"img_size": 32, "depth": 2, **options}).eval()
    assert check(vit)


# Made with parts of the caller's own, or with heads by block: they have to be given again, and load says so
NOT_DESCRIBED = ("hybrid", "vitamin", "sapiens2", "eva-post-norm")


@pytest.mark.parametrize("family", FAMILIES | MORE_FAMILIES)
def test_every_family(family: str) -> None:
    shorter = {} if family == "sapiens2" else {"depth": 2}
    vit = toy(family, **shorter)
    assert check(vit) == (not family.startswith(NOT_DESCRIBED))


def test_what_cannot_be_described_is_not_claimed() -> None:
    class Double(nn.GELU):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    for change in ("activation", "hook", "method", "one block"):
        vit: Any = toy(depth=3)
        if change == "activation":
            vit.blocks[1].mlp.act = Double()
        elif change == "hook":
            vit.blocks[1].register_forward_hook(lambda *_: None)
        elif change == "method":
            vit.blocks[1].mlp.forward = vit.blocks[0].mlp.forward
        else:
            vit.blocks[2].norm1.eps = 0.1
        assert "arguments" not in describe(vit), change
        if change in ("activation", "one block"):
            assert structure_digest(vit) != structure_digest(toy(depth=3))


@pytest.mark.parametrize(
    "described",
    [
        {"class": "VisionTransformer"},
        {"class": "os.system", "arguments": {}},
        {"class": "VisionTransformer", "arguments": {"depth": 10**9}},
        {"class": "VisionTransformer", "arguments": {"embed_dim": 10**12}},
        {"class": "VisionTransformer", "arguments": {"act_layer": {"a": 1}}},
        {"name": "no_such_model", "arguments": {}},
        {"class": "VisionTransformer", "arguments": 3},
    ],
    ids=str,
)
def test_descriptions_of_strangers_are_refused(described: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        build(described)
