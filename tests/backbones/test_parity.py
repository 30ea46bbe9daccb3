"""A composition that changes nothing gives what timm gives, on every supported family, by both paths."""

from dataclasses import replace

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from toys import FAMILIES, SIZES, images, toy, wake

from vitrim import EViT, compose
from vitrim.backbones.shapes import shapes_only
from vitrim.network.model import StagedViT

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


def difference(ours: Tensor, reference: Tensor) -> float:
    return ((ours - reference).abs().max() / reference.abs().max()).item()


def keep_all(vit: nn.Module) -> EViT:
    return EViT(keep=1.0, at=(1, 5), score="class" if vit.cls_token is not None else "received")


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_attached_or_nothing_removed_is_timm(family: str, dtype: torch.dtype) -> None:
    vit = toy(family, dtype, depth=6)
    batch = images(vit)
    with torch.no_grad():
        reference = vit(batch)
        for methods in ((), (keep_all(vit),)):
            model = compose(vit, *methods).eval()
            assert difference(model(batch), reference) <= TOLERANCE[dtype]
            logits, state = model.run(batch)
            assert difference(logits, reference) <= TOLERANCE[dtype]
            assert state.full and torch.equal(state.sizes, torch.ones_like(state.sizes))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_matters_to_the_logits(family: str) -> None:
    """The parity above would pass a branch that both sides skip: here every weight gets a gradient."""
    model = compose(toy(family, depth=4))
    model.requires_grad_(True)
    model(images(model)).square().sum().backward()
    assert [
        name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ] == []


@pytest.mark.parametrize("family", ["internvit", "dinov3"])
def test_dynamic_image_size(family: str) -> None:
    vit = toy(family)
    batch = torch.randn(2, 3, 24, 40, dtype=torch.float64)
    with torch.no_grad():
        model = compose(vit, keep_all(vit)).eval()
        assert difference(model(batch), vit(batch)) <= 1e-12
        assert model.run(batch)[1].grid == (6, 10)


@pytest.mark.parametrize("pool", ["avg", "max", "avgmax"])
def test_pooling_weighs_tokens_by_size(pool: str) -> None:
    """Duplicating a token and merging it back must not move the pooled features."""
    model = compose(toy(global_pool=pool))
    _, state = model.run(images(model))
    from vitrim.backbones.heads import classify

    halves = [state.tokens, state.tokens[:, -1:]]
    split_sizes = torch.cat([state.sizes[:, :-1], state.sizes[:, -1:] / 2, state.sizes[:, -1:] / 2], dim=1)
    position = torch.cat([state.position, state.position[:, -1:]], dim=1)
    doubled = replace(
        state, tokens=torch.cat(halves, dim=1), sizes=split_sizes, position=position, moved=True
    )
    assert difference(classify(model.vit, doubled), classify(model.vit, state)) <= 1e-12


def test_class_head_path_equals_the_whole_last_block_with_reduction_and_gradients() -> None:
    model = compose(toy(), EViT(keep=0.5, at=(2, 7, 11)), "LoRA()", "Adapter()", "DenseAdapter(width=4)")
    wake(model)
    batch = images(model)
    short, whole = model(batch), model.run(batch)[0]
    assert difference(short, whole) <= 1e-12
    trained = list(model.trained().values())
    for one, other in zip(
        torch.autograd.grad(short.square().sum(), trained, allow_unused=True),
        torch.autograd.grad(whole.square().sum(), trained, allow_unused=True),
        strict=True,
    ):
        assert one is not None and other is not None
        assert difference(one, other) <= 1e-9


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_timm_models_by_name(name: str) -> None:
    model = compose(name, image_size=64, num_classes=7)
    wake(model).eval()
    with torch.no_grad():
        batch = images(model)
        assert difference(model(batch), model.vit(batch)) <= 1e-6


def named(name: str) -> nn.Module:
    """timm's model without weights; one that this version does not know is skipped."""
    if not timm.is_model(name):
        raise TypeError(f"no {name}")
    with shapes_only():
        return timm.create_model(name)


REFUSED = {
    "its out_proj projects attention and MLP together": lambda: named("vit_dpwee_patch16_reg1_gap_256"),
    "its merger joins neighbouring patches": lambda: named("qwen3_vit_88m_enc"),
    "its aligner joins neighbouring patches": lambda: named("deepseek_vit_412m_enc"),
    "its soft-token pooler": lambda: named("gemma4_vit_167m_enc"),
    "XCA attention": lambda: named("xcit_nano_12_p16_224"),
    "inner blocks": lambda: named("tnt_s_legacy_patch16_224"),
    "GPSA": lambda: named("convit_tiny"),
    "window_partition": lambda: named("samvit_base_patch16_224"),
    "patch_drop": lambda: VisionTransformer(**SIZES, patch_drop_rate=0.5),
    "ResNet": lambda: timm.create_model("resnet10t"),
}


@pytest.mark.parametrize("part", REFUSED)
def test_what_cannot_be_run_exactly_is_refused_by_name(part: str) -> None:
    try:
        backbone = REFUSED[part]()
    except TypeError as error:
        pytest.skip(f"this version of timm cannot build it: {error}")
    with pytest.raises(ValueError, match=part):
        compose(backbone)


def test_an_unknown_part_of_a_block_is_refused_by_name() -> None:
    vit = toy()
    vit.blocks[3].attn.add_module("talking_heads", nn.Linear(2, 2))
    with pytest.raises(ValueError, match="block 3 has an unknown part in its attention: talking_heads"):
        compose(vit)


@pytest.mark.parametrize(
    ("shape", "words"),
    [((3, 32, 32), "batch"), ((1, 1, 32, 32), "3 channels"), ((1, 3, 40, 32), "32x32")],
)
def test_images_that_do_not_fit_are_refused(shape: tuple[int, ...], words: str) -> None:
    model: StagedViT = compose(toy())
    with pytest.raises(ValueError, match=words):
        model(torch.zeros(shape, dtype=torch.float64))
