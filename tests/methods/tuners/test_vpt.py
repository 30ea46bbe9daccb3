"""VPT: where prompts stand, that they are replaced block by block, that nothing takes them for patches."""

import math
from copy import deepcopy

import pytest
import torch
from golden import assert_close
from timm import create_model
from toys import images, toy, wake

from vitrim import VPT, DenseAdapter, EViT, LoRA, ToMe, compose
from vitrim.backbones.shapes import shapes_only


def by_hand(model, batch):
    """The prompted forward pass with timm's own blocks, for plain ViTs."""
    vit = model.vit
    tokens = vit.norm_pre(vit._pos_embed(vit.patch_embed(batch)))
    own = vit.num_prefix_tokens
    present = 0
    for stage, block in zip(model.stages, vit.blocks, strict=True):
        if stage.prompts is not None:
            prompts = stage.prompts.prompts.expand(len(batch), -1, -1)
            tokens = torch.cat([tokens[:, :own], prompts, tokens[:, own + present :]], dim=1)
            present = prompts.shape[1]
        tokens = block(tokens)
    return vit.forward_head(vit.norm(torch.cat([tokens[:, :own], tokens[:, own + present :]], dim=1)))


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    "family", ["vit", "deit3", "dinov2-registers", "average", "average-registers", "siglip"]
)
def test_prompts_stand_behind_the_prefix_and_leave_before_the_head(family, deep):
    model = wake(compose(toy(family), VPT(prompts=3, deep=deep))).eval()
    batch = images(model)
    with torch.no_grad():
        assert_close(model(batch), by_hand(model, batch), 1e-12)
        logits, state = model.run(batch)
    assert_close(logits, by_hand(model, batch), 1e-12)
    assert state.prefix == model.vit.num_prefix_tokens and state.full


@pytest.mark.parametrize("family", ["dinov3", "eva02", "pe-core", "rope-mixed"])
def test_rotary_tables_skip_prompts(family):
    """Against timm's own blocks, told that their prefix is longer."""
    model = wake(compose(toy(family), VPT(prompts=2, deep=False))).eval()
    batch, vit = images(model), deepcopy(model.vit)
    with torch.no_grad():
        tokens, tables = vit._pos_embed(vit.patch_embed(batch))
        tokens = vit.norm_pre(tokens)
        prompts, own = model.stages[0].prompts.prompts.expand(2, -1, -1), vit.num_prefix_tokens
        tokens = torch.cat([tokens[:, :own], prompts, tokens[:, own:]], dim=1)
        for index, block in enumerate(vit.blocks):
            block.attn.num_prefix_tokens += 2
            tokens = block(tokens, rope=tables[index] if vit.rope_mixed else tables)
        tokens = vit.norm(torch.cat([tokens[:, :own], tokens[:, own + 2 :]], dim=1))
        assert_close(model(batch), vit.forward_head(tokens), 1e-12)


@pytest.mark.parametrize("family", ["vit", "dinov3", "siglip", "distilled"])
@pytest.mark.parametrize("reducer", [EViT(0.5, (1, 5), score="received"), ToMe(r=3)])
def test_reducers_leave_prompts_alone(family, reducer):
    model = wake(compose(toy(family), VPT(prompts=5), reducer, LoRA(), DenseAdapter(width=4))).eval()
    with torch.no_grad():
        logits, state = model.run(images(model))
        assert_close(model(images(model)), logits, 1e-12)
    assert state.sizes.sum(1).allclose(torch.full((2,), 64.0, dtype=torch.float64))


@pytest.mark.parametrize(
    ("settings", "count"),
    [({"prompts": 8}, 73_728), ({"prompts": 50}, 460_800), ({"prompts": 100, "deep": False}, 76_800)],
)
def test_parameter_counts_on_vit_base(settings, count):
    with shapes_only():
        model = compose(create_model("vit_base_patch16_224", num_classes=0), VPT(**settings))
    assert sum(parameter.numel() for parameter in model.trained().values()) == count


def test_prompts_start_uniform_by_patch_and_width():
    model = compose(toy(), VPT(prompts=200, deep=False))
    bound = math.sqrt(6 / (3 * 4 * 4 + 24))
    prompts = model.stages[0].prompts.prompts
    assert 0.97 * bound < prompts.abs().max() <= bound


def test_every_prompt_learns_and_dropout_acts_in_training_only():
    model = compose(toy(), VPT(prompts=4, dropout=0.5))
    batch = images(model)
    model.train()
    model(batch).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in model.trained().values())
    assert not torch.equal(model(batch), model(batch))
    model.eval()
    assert torch.equal(model(batch), model(batch))


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="prompts must be a whole number of at least 1"):
        VPT(prompts=0)
    with pytest.raises(ValueError, match="deep must be True or False"):
        VPT(deep="yes")
    with pytest.raises(ValueError, match="already has prompts"):
        compose(toy(), VPT(), VPT(deep=False))
