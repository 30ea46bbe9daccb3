"""SSF equals the official implementation, before and after folding, and folds on every family."""

from pathlib import Path

import pytest
import torch
import tuned
from golden import Golden, assert_close
from toys import toy

import vitrim
from vitrim import SSF, compose

OFFICIAL = {  # our layer -> the official vectors' place and number
    "norm1": ("", 1),
    "norm2": ("", 2),
    "attn.qkv": ("attn.", 1),
    "attn.proj": ("attn.", 2),
    "mlp.fc1": ("mlp.", 1),
    "mlp.fc2": ("mlp.", 2),
}


def test_equals_the_official_implementation_folded_or_not() -> None:
    golden = Golden("ssf_d64")
    model = compose(golden.backbone(), SSF())
    names = {}
    for part in ("scale", "shift"):
        names[f"vit.patch_embed.proj.ssf.{part}"] = f"patch_embed.ssf_{part}_1"
        names[f"vit.norm.ssf.{part}"] = f"ssf_{part}_1"
        for i in range(model.depth):
            for layer, (place, number) in OFFICIAL.items():
                names[f"vit.blocks.{i}.{layer}.ssf.{part}"] = f"blocks.{i}.{place}ssf_{part}_{number}"
    assert set(names) == {name for name in model.trained() if "head" not in name}
    tuned.set_values(model, golden, names)
    merged = vitrim.merge(model)
    with torch.no_grad():
        assert_close(model(golden.images()), golden["logits"])
        assert_close(model.run(golden.images())[0], golden["logits"])
        assert_close(merged(golden.images()), golden["logits_merged"])
    checked = 0
    for name, value in merged.vit.state_dict().items():
        if f"merged/{name}" in golden:
            assert_close(value, golden[f"merged/{name}"])
            checked += 1
        elif f"merged/{name}#row0" in golden:
            assert_close(value[0].flatten()[:32], golden[f"merged/{name}#row0"])
            assert_close(value.square().sum(), golden[f"merged/{name}#sumsq"])
            checked += 1
    assert checked == 76  # weight and bias of 38 layers


@pytest.mark.parametrize(
    "family",
    ["vit", "clip", "dinov2-registers", "siglip", "qk-norm", "dinov3", "dinov3-qkvb", "eva02", "pe-core"],
)
def test_folds_exactly(family: str) -> None:
    tuned.check_folds(SSF(), family=family)


def test_folds_exactly_with_fewer_tokens() -> None:
    tuned.check_folds(SSF(), "EViT(keep=0.5, at=(1, 4))")
    tuned.check_folds(SSF(), "ToMe(r=3)", family="eva02")


def test_the_start_is_near_the_backbone() -> None:
    layer = compose(toy(embed_dim=960, depth=1), SSF()).vit.blocks[0].mlp.fc1
    for vector, mean in ((layer.ssf.scale, 1.0), (layer.ssf.shift, 0.0)):
        assert abs(vector.mean() - mean) < 3e-3 and 0.017 < vector.std() < 0.023


@pytest.mark.parametrize("family", ["vit", "eva02"])
def test_training_moves_scales_and_shifts_only(family: str) -> None:
    tuned.check_training(SSF(), "EViT(keep=0.5, at=(2,))", family=family)


@pytest.mark.parametrize("family", ["vit", "dinov3"])  # DINOv3's qkv has no bias until one is merged into it
def test_saving_and_loading(tmp_path: Path, family: str) -> None:
    tuned.check_round_trip(SSF(), tmp_path, family)


def test_chosen_roles_leave_room_for_other_tuners() -> None:
    tuned.check_folds(SSF(roles=("norm", "patch", "attention_out")), "LoRA(rank=2)", "BitFit()")


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="query, key and value are one layer here; name all three or none"):
        compose(toy(), SSF(roles=("query",)))
    with pytest.raises(ValueError, match="SSF: roles must be one of 'query'"):
        SSF(roles=("head",))
    with pytest.raises(ValueError, match="SSF: roles is empty"):
        SSF(roles=())
    with pytest.raises(
        ValueError, match="norm of block 0 is a RmsNorm, which holds no shift; leave its role out"
    ):
        from timm.layers import RmsNorm

        compose(toy(norm_layer=RmsNorm), SSF())
