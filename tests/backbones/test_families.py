"""Every structure of a timm Vision Transformer that vitrim runs: timm's numbers, by both paths, also with
reducers that remove nothing, and sound when tokens go."""

from functools import cache
from typing import Any

import pytest
import torch
from blocks import states_after_blocks
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn
from toys import FAMILIES, MORE_FAMILIES, images, toy

import vitrim
from vitrim import REDUCERS, TUNERS, VPT, EViT, ToMe, compose, costs
from vitrim.backbones.geometry import has_class_token
from vitrim.backbones.heads import has_attention_pool
from vitrim.backbones.places import relative_bias
from vitrim.tokens.state import TokenState

TOLERANCE = {torch.float32: 3e-6, torch.float64: 1e-12}
NEW = ("beit", "relpos-rpn", *MORE_FAMILIES)


def difference(ours: Tensor, reference: Tensor) -> float:
    return ((ours - reference).abs().max() / reference.abs().max()).item()


def score(vit: nn.Module) -> str:
    return "class" if has_class_token(vit) else "received"


def shallow(family: str, depth: int = 2, dtype: torch.dtype = torch.float64) -> Any:
    """A structure is one block's, and the last block runs in a way of its own: what is tried with every
    method takes a sixth of the time of 12 of them."""
    return toy(family, dtype, depth=depth)


@cache
def reducer(name: str, family: str) -> Any:
    """What fits four blocks of it."""
    return REDUCERS[name].example(compose(shallow(family, 4)))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("family", MORE_FAMILIES)
def test_nothing_attached_or_nothing_removed_is_timm(family: str, dtype: torch.dtype) -> None:
    vit = shallow(family, 4, dtype)
    batch = images(vit)
    with torch.no_grad():
        reference = vit(batch)
        keep_all = EViT(keep=1.0, at=(1, 3), score=score(vit))
        for methods in ((), (keep_all,), (ToMe(r=0),)):
            model = compose(vit, *methods).eval()
            assert difference(model(batch), reference) <= TOLERANCE[dtype]
            logits, state = model.run(batch)
            assert difference(logits, reference) <= TOLERANCE[dtype]
            assert state.full


@pytest.mark.parametrize("family", MORE_FAMILIES)
def test_every_weight_matters_to_the_logits(family: str) -> None:
    model = compose(shallow(family))
    model.requires_grad_(True)
    model(images(model)).square().sum().backward()
    assert silent(dict(model.named_parameters()), family) == []


# No gradient by design: a class token has no place in the last block's bias table; what is the same for all
# keys leaves a softmax as it is; an average pool reads no class token
BY_DESIGN = {
    "relpos-class": (".1.attn.rel_pos.",),
    "cait": (".proj_l.bias",),
    "cait-average": (".proj_l.bias", "cls_token", "blocks_token_only"),
}

# What cannot be done with a structure, in a sentence
REFUSED = {
    "DyT": "the MLP of this backbone runs beside attention",
    "SSF": "is a RmsNorm, which holds no shift",
    "DynamicViT": "talking heads",
    "LTMP": "talking heads",
    "FacT": "whole multiples of the width",
    "NOAH": "query, key and value are separate layers",
    "SynQT": "mixes or subtracts heads, or is one of several",
}


def silent(trained: dict[str, nn.Parameter], family: str) -> list[str]:
    """What got no gradient, but for what has none by design."""
    names = [name for name, p in trained.items() if p.grad is None or not p.grad.abs().sum() > 0]
    return [name for name in names if not any(part in name for part in BY_DESIGN.get(family, ()))]


def is_refused(name: str, family: str) -> bool:
    """Whether a structure cannot have a method."""
    if name == "SynQT":
        return family == "parallel-things" or family.partition("-")[0] in ("cait", "differential")
    if name == "NOAH":
        return family == "sapiens2"
    return (name in ("DynamicViT", "LTMP") and "cait" in family) or (
        family.partition("-")[0] == {"DyT": "parallel", "SSF": "differential"}.get(name)
        and family != "parallel-things"
    )


@pytest.mark.parametrize("family", NEW)
@pytest.mark.parametrize("name", REDUCERS)
def test_reducing_is_finite_repeatable_and_the_same_by_both_paths(name: str, family: str) -> None:
    vit = shallow(family, 4)
    if is_refused(name, family):
        with pytest.raises(ValueError, match=REFUSED[name]):
            compose(vit, reducer(name, family))
        return
    model = compose(vit, reducer(name, family)).eval()
    batch = images(model, batch=3)
    with torch.no_grad():
        logits = model(batch)
        assert torch.isfinite(logits).all() and torch.equal(logits, model(batch))
        torch.testing.assert_close(model.run(batch)[0], logits, rtol=0, atol=1e-10)
        singles = torch.cat([model(batch[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(singles, logits, rtol=0, atol=1e-10)


@pytest.mark.parametrize("family", [f for f in NEW if "relpos" in f or "beit" in f])
def test_a_token_keeps_the_relative_bias_of_its_cell(family: str) -> None:
    """Dropped tokens masked out of the whole sequence, by timm's own blocks, say the same as leaving."""
    vit = toy(family, depth=3)
    model = compose(vit, EViT(keep=0.5, at=(0,), score=score(vit), fuse="drop")).eval()
    batch = images(model)
    with torch.no_grad():
        after = states_after_blocks(model, batch)
        whole = states_after_blocks(compose(toy(family, depth=3)).eval(), batch)[0]
        prefix = after[0].prefix
        assert after[0].count == whole.count // 2
        left = prefix + after[0].position  # [B, M]
        index = torch.cat([torch.arange(prefix).expand(len(left), -1), left], dim=1)
        tokens = torch.zeros_like(whole.tokens)
        tokens.scatter_(1, index[..., None].expand(-1, -1, tokens.shape[-1]), after[0].tokens)
        gone = torch.ones(tokens.shape[:2], dtype=torch.bool).scatter(1, index, False)
        expected = attention_of_timm(vit, tokens, gone)
        found = after[1].tokens
        torch.testing.assert_close(
            found, expected.gather(1, index[..., None].expand_as(found)), rtol=0, atol=1e-10
        )


def attention_of_timm(vit: Any, tokens: Tensor, gone: Tensor) -> Tensor:
    """timm's second block with a key mask: its fused attention adds whatever its bias is, so the mask is put
    into the bias that timm itself asks for."""
    block, mask = vit.blocks[1], torch.zeros(gone.shape, dtype=tokens.dtype).masked_fill(gone, -torch.inf)
    shared = None
    for name in ("shared_rel_pos", "rel_pos_bias"):
        if getattr(vit, name, None) is not None:
            table = getattr(vit, name)
            shared = table.get_bias() if hasattr(table, "get_bias") else table()
    own = getattr(block.attn, "rel_pos", None)
    if own is not None:
        shared = own.get_bias()
        block.attn.rel_pos = None
    shared = 0 if shared is None else shared
    out = block(tokens, shared + mask[:, None, None])
    if own is not None:
        block.attn.rel_pos = own
    return out


THIRDS = [  # every structure meets a third of the tuners, neighbours another third: all pairs take minutes
    (name, family)
    for row, name in enumerate(TUNERS)
    for column, family in enumerate(NEW)
    if (row + column) % 3 == 0
]


@pytest.mark.parametrize(("name", "family"), THIRDS)
def test_tuners_train_and_save_on_every_structure(name: str, family: str, tmp_path: Any) -> None:
    vit = shallow(family, 4 if name == "DenseAdapter" else 2)  # which reads the adapters of three blocks back
    torch.manual_seed(0)
    try:
        # NOAH's default trains a part drawn at random in every step
        model = compose(vit, TUNERS[name]() if name != "NOAH" else TUNERS[name](sample=False))
    except ValueError as refused:  # in a sentence that names the layer
        assert name == "FacT" or is_refused(name, family)
        assert REFUSED[name] in str(refused)
        return
    assert not is_refused(name, family)
    batch = images(model)
    if name == "FisherDelta":
        vitrim.fit(model, [(batch, torch.tensor([0, 1]))])
    wake_trained(model)
    with torch.no_grad():
        logits = model.eval()(batch)
        torch.testing.assert_close(model.run(batch)[0], logits, rtol=0, atol=1e-10)
        merged = vitrim.merge(model)
        torch.testing.assert_close(merged(batch), logits, rtol=0, atol=1e-9)
    vitrim.save(model, tmp_path / "tuned.safetensors")
    with torch.no_grad():
        again = vitrim.load(tmp_path / "tuned.safetensors", backbone=shallow(family, model.depth))
        assert torch.equal(again(batch), logits)
    logits, penalty = model.train().forward_with_penalty(batch)
    (logits.square().mean() + (0 if penalty is None else penalty)).backward()
    assert silent(model.trained(), family) == []


def wake_trained(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.trained().values():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.1 * noise.to(parameter.dtype))


@pytest.mark.parametrize("family", NEW)
def test_costs_are_fvcore_s(family: str) -> None:
    model = compose(shallow(family, 4).float())  # so that what fvcore leaves out weighs little
    batch = images(model, batch=1)
    for block in [*model.vit.blocks, model.vit]:
        for module in block.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = False  # fvcore does not see into the fused kernel
    counter = FlopCountAnalysis(model.vit, batch).unsupported_ops_warnings(False)
    by_module = counter.by_module()
    without_head = counter.total() - by_module["head"]
    if (
        "differential" in family
    ):  # unfused, timm gathers values once; its own, fused path once for each softmax
        tokens = costs(model).tokens[0]
        without_head += model.depth * tokens**2 * model.width
    ours = costs(model).macs_paper
    assert abs(ours - without_head) <= 0.003 * without_head  # fvcore leaves out small parts of rotary tables


def test_prompts_have_no_relative_bias_and_the_others_keep_theirs() -> None:
    vit = toy("beit")
    table = vit.blocks[0].attn._get_rel_pos_bias()[0]  # [H, 1+N, 1+N]
    whole = TokenState.start(torch.zeros(2, 65, 24, dtype=torch.float64), 1, (8, 8))
    state = compose(vit, VPT(prompts=3)).stages[0].prompts(whole)
    bias = relative_bias(vit.blocks[0].attn, None, state)
    assert bias is not None and bias.shape == (2, 2, 68, 68)
    own = [0, *range(4, 68)]
    assert torch.equal(bias[0][:, own][:, :, own], table)
    assert not bias[:, :, 1:4].any() and not bias[:, :, :, 1:4].any()
    assert torch.equal(relative_bias(vit.blocks[0].attn, None, state, rows=5), bias[:, :, :5])


@pytest.mark.parametrize("family", ["beit", "relpos-rpn"])
def test_exports_with_any_batch(family: str) -> None:
    vit = toy(family, torch.float32, depth=2)
    model = compose(vit, EViT(keep=0.5, at=(0,), score=score(vit))).eval()
    with torch.no_grad():
        shapes = {"images": {0: torch.export.Dim("batch")}}
        exported = torch.export.export(model, (images(model),), dynamic_shapes=shapes).module()
        five = images(model, batch=5)
        torch.testing.assert_close(exported(five), model(five), rtol=0, atol=1e-5)


def test_a_hybrid_s_statistics_stay_in_training() -> None:
    model = compose(toy("hybrid"), "LoRA()").train()
    before = {name: value.clone() for name, value in model.vit.state_dict().items()}
    model(images(model)).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in model.vit.state_dict().items())
    assert not any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize("family", [f for f in MORE_FAMILIES if f.startswith("naflex")])
@pytest.mark.parametrize("size", [(24, 40), (44, 20)])
def test_naflex_takes_any_aspect_ratio(family: str, size: tuple[int, int]) -> None:
    vit = toy(family)
    model = compose(vit, EViT(keep=1.0, at=(1,), score=score(vit))).eval()
    batch = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        assert difference(model(batch), vit(batch)) <= 1e-12
        assert model.run(batch)[1].grid == (size[0] // 4, size[1] // 4)
    with pytest.raises(ValueError, match="multiple of the 4x4 patch"):
        model(torch.zeros(1, 3, 30, 32, dtype=torch.float64))


def test_naflex_by_name_remembers_its_image_size(tmp_path: Any) -> None:
    model = compose("naflexvit_base_patch16_gap", "LoRA(rank=2)", num_classes=3, image_size=(32, 64))
    assert model.preprocess.image_size == (32, 64) and model.patch_count == 8
    vitrim.save(model, tmp_path / "small.safetensors")
    again = vitrim.load(tmp_path / "small.safetensors")
    assert again.preprocess.image_size == (32, 64) and again.patch_count == 8


@pytest.mark.parametrize("family", ["beit", "beit-shared", "relpos-rpn", "relpos-table", "relpos-shared"])
def test_resizing_is_timm_s(family: str) -> None:
    reference = toy(family)
    if not hasattr(reference, "set_input_size"):  # before timm 1.0.31
        with pytest.raises(ValueError, match="cannot resize"):
            compose(toy(family), image_size=(24, 40))
        return
    reference.set_input_size(img_size=(24, 40))
    model = compose(toy(family), image_size=(24, 40)).eval()
    batch = images(model)
    assert batch.shape[-2:] == (24, 40)
    with torch.no_grad():
        assert difference(model(batch), reference(batch)) <= 1e-12


def test_every_kind_of_head_is_among_the_structures() -> None:
    assert not set(FAMILIES) & set(MORE_FAMILIES)
    heads = {(has_attention_pool(toy(f)), toy(f).global_pool) for f in MORE_FAMILIES}
    assert {(True, "map"), (False, "avg"), (False, "token")} <= heads
