"""Costs: exact anchors of the papers' convention, and fvcore as an independent counter of both figures."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from fvcore_counts import fvcore_count
from torch import nn
from toys import FAMILIES, images, toy

from vitrim import METHODS, EViT, compose, costs, parse_method
from vitrim.backbones.shapes import shapes_only
from vitrim.measuring.costs import Costs
from vitrim.measuring.counting import SHAPES
from vitrim.network.copying import copied
from vitrim.network.model import StagedViT

VIT_B = 17_581_972_224  # ViT-B/16 at 224 pixels without head, GFLOPs 17.58 in the papers
VIT_B_WEIGHTS = 85_798_656
HEAD = 100 * 769
SIZES_MERGED = 99 * 98  # the official FPET merges the sizes of 98 tokens into 99 by a matrix product

# methods on ViT-B/16, multiply-accumulates, trained parameters without head, tokens leaving the last block
ANCHORS = [
    ("", VIT_B, 0, 197),
    ("EViT(keep=0.5)", 8_828_251_392, 0, 28),
    ("EViT(keep=0.7)", 11_621_700_864, 0, 72),
    ("EViT(keep=0.9)", 15_411_129_600, 0, 148),
    ("EViT(keep=0.7, fuse='drop')", 11_496_828_672, 0, 69),
    ("EViT(keep=0.7); DenseAdapter(width=8)", 11_654_386_944, 279_808, 72),
    ("EViT(keep=0.7); DenseAdapter(width=16)", 11_687_073_024, 550_400, 72),
    ("EViT(keep=0.7); DenseAdapter(width=32)", 11_752_445_184, 1_091_584, 72),
    ("EViT(keep=0.7); DenseAdapter(width=64)", 11_883_189_504, 2_173_952, 72),
    ("EViT(keep=0.7); DenseAdapter(width=128)", 12_144_678_144, 4_338_688, 72),
    ("EViT(keep=0.7); DenseAdapter(width=32, fusion='input')", 11_696_755_968, 599_424, 72),
    ("EViT(keep=0.7); DenseAdapter(width=32, fusion='output')", 11_808_134_400, 1_598_464, 72),
    ("DenseAdapter(width=32)", 17_794_996_992, 1_091_584, 197),
    ("DenseAdapter(width=32, fusion='output')", 17_891_826_432, 1_598_464, 197),
    ("Adapter(width=8, bias=False)", 17_611_021_056, 147_456, 197),
    ("Adapter(width=8)", 17_611_021_056, 156_768, 197),
    ("LoRA(rank=8)", 17_640_069_888, 294_912, 197),
    ("VPT(prompts=8)", 18_321_464_064, 73_728, 205),
    ("VPT(prompts=10)", 18_506_705_664, 92_160, 207),
    ("BitFit()", VIT_B, 102_912, 197),
    ("SSF()", VIT_B, 205_824, 197),
    ("Bipartite(at=(6,))", 13_432_966_784 + SIZES_MERGED, 4_096, 99),
    ("Bipartite(at=(6,)); Adapter(width=8, bias=False)", 13_454_790_272 + SIZES_MERGED, 151_552, 99),
    ("Bipartite(at=(5,)); Adapter(width=8, bias=False)", 12_714_644_096 + SIZES_MERGED, 151_552, 99),
    ("Bipartite(at=(1,)); Adapter(width=8, bias=False)", 9_754_059_392 + SIZES_MERGED, 151_552, 99),
]
# the same with a head of 100 classes, in billions, as printed
ROUNDED = [
    ("ToMe(r=8)", 13.1220, 101),
    ("ToMe(r=13)", 10.3808, 41),
    ("ToMe(r=16)", 8.7834, 11),
    ("DynamicViT(keep=0.7)", 11.489, 68),
    ("DynamicViT(keep=0.5)", 8.5706, 25),
    ("Pool(at=(6,)); Adapter(width=8)", 13.4460, None),
    ("Bipartite(at=(6,), learned=False); Adapter(width=8)", 13.4466, 99),
    ("Bipartite(at=(6,)); Adapter(width=32, bias=False)", 13.5203, 99),
    ("Bipartite(at=(6,)); LoRA(rank=8)", 13.48, 99),
    ("Convpass(width=8)", 17.6429, 197),
    ("FacT(rank=8)", 17.8453, 197),
    ("FacT(rank=16)", 18.11, 197),
    ("LoRA(rank=32, bits=1)", 17.81, 197),
    ("VPT(prompts=7)", 18.2290, 204),
    ("VPT(prompts=57)", 22.90, 254),
    ("DyT(rate=0.5)", 12.0593, 197),  # 12.0575 and its routers, which the release leaves out
    ("DyT(rate=0.7)", 14.3261, 197),
]


def base_costs(text: str, classes: int = 100) -> Costs:
    methods = [parse_method(part) for part in available(text)]
    with shapes_only():
        return costs(compose(copied(bare_base(classes)), *methods))


@cache
def bare_base(classes: int) -> nn.Module:
    with shapes_only():
        return compose("vit_base_patch16_224", num_classes=classes).vit


def available(text: str) -> list[str]:
    parts = [part.strip() for part in text.split(";") if part]
    missing = [part for part in parts if part.split("(")[0] not in METHODS]
    if missing:
        pytest.skip(f"{missing[0]} does not exist yet")
    return parts


@pytest.mark.parametrize(("text", "macs", "trained", "tokens"), ANCHORS, ids=str)
def test_anchors_to_the_last_digit(text: str, macs: int, trained: int, tokens: int) -> None:
    found = base_costs(text)
    assert found.macs_paper == macs
    assert found.trained - found.trained_head == trained
    assert found.trained_head == HEAD
    assert found.tokens[-1] == tokens


@pytest.mark.parametrize(("text", "gmacs", "tokens"), ROUNDED, ids=str)
def test_anchors_as_printed(text: str, gmacs: float, tokens: int | None) -> None:
    found = base_costs(text)
    digits = len(str(gmacs).split(".")[1])
    assert round(found.gmacs_paper + 768 * 100 / 1e9, digits) == gmacs
    assert tokens in (None, found.tokens[-1])


def test_parameters() -> None:
    found = base_costs("LoRA(rank=8)")
    assert (found.total, found.trained) == (VIT_B_WEIGHTS + 294_912 + HEAD, 294_912 + HEAD)
    assert found.trained_share == pytest.approx(0.00431, abs=1e-5)


def test_tokens_leaving_each_block() -> None:
    assert base_costs("EViT(keep=0.7)").tokens == (197,) * 3 + (140,) * 3 + (100,) * 3 + (72,) * 3


def test_last_block_runs_only_what_the_class_token_needs() -> None:
    found = base_costs("")
    width, tokens = 768, 197
    norms, keys_values = 5 * tokens * width + 5 * width, 2 * tokens * width**2
    one_row = (1 + 1 + 8) * width**2 + 2 * tokens * width  # query, output projection and MLP; attention
    assert found.blocks[-1] == norms + keys_values + one_row
    whole = VIT_B + 100 * width
    unread = 5 * (tokens - 1) * width  # in the final norm
    assert found.macs == whole - (found.blocks[0] - found.blocks[-1]) - unread
    assert len(set(found.blocks[:-1])) == 1


def unfused(vit: nn.Module) -> nn.Module:
    for module in vit.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    return vit


def head_macs(vit: nn.Module) -> int:
    heads = [getattr(vit, name) for name in ("head", "head_dist") if hasattr(vit, name)]
    return sum(head.weight.numel() for head in heads)


@pytest.mark.parametrize("family", FAMILIES)
def test_paper_figure_is_what_fvcore_says_of_plain_timm(family: str) -> None:
    vit = toy(family, torch.float32, depth=3)
    counted = costs(compose(vit))
    assert fvcore_count(unfused(vit), images(vit)) == counted.macs_paper + head_macs(vit)


# Few blocks, as fvcore takes its time with every operator. It traces, and a trace multiplies token counts as
# float32: rates that it cannot hold may round otherwise
EXECUTED = [
    ("vit", ""),
    ("vit", "EViT(keep=0.7, at=(1, 3))"),
    ("distilled", "EViT(keep=0.5, at=(1, 3)); DenseAdapter(width=4)"),
    ("siglip", "EViT(keep=0.5, at=(1, 3), score='received'); LoRA(rank=4)"),
    ("dinov3", "EViT(keep=0.7, at=(1, 3)); Adapter(width=4)"),
    ("eva02", "EViT(keep=0.7, at=(1, 3), fuse='drop'); LoRA(rank=2, roles=('query', 'mlp_out'))"),
    ("average", "EViT(keep=0.7, at=(1, 3)); DenseAdapter(width=4, fusion='output')"),
    ("vit", "ToMe(r=3); LoRA(rank=4)"),
    ("vit", "Bipartite(at=(3,)); Adapter(width=4)"),
    ("vit", "DynamicViT(at=(1, 3)); SSF()"),
    ("average-registers", "Convpass(width=4)"),
    ("dinov2-registers", "VPT(prompts=2); EViT(at=(1, 3))"),
]


@pytest.mark.parametrize(("family", "text"), EXECUTED)
def test_executed_figure_is_what_fvcore_says_of_the_composition(family: str, text: str) -> None:
    model = compose(toy(family, torch.float32, depth=5), *available(text)).eval()
    assert costs(model).macs == fvcore_count(model, images(model))


def test_the_model_is_only_read() -> None:
    model = compose(toy("vit", torch.float32), EViT()).train()
    batch = images(model)
    before = model(batch)
    modules = {name: (dict(vars(module)), module.training) for name, module in model.named_modules()}
    costs(model)
    assert {name: (dict(vars(module)), module.training) for name, module in model.named_modules()} == modules
    assert model.stages[3].reducer.commutes
    assert torch.equal(model(batch), before)


@pytest.mark.parametrize(
    "make", [lambda model: model.half(), lambda model: model.to("meta")], ids=["half", "meta"]
)
def test_costs_depend_on_shapes_alone(make: Callable[[StagedViT], StagedViT]) -> None:
    model = compose(toy("vit", torch.float32), EViT(), "LoRA(rank=2)")
    assert costs(model) == costs(make(model))


def test_other_image_sizes() -> None:
    model = compose(toy("internvit", torch.float32))
    small, large = costs(model), costs(model, (48, 64))
    assert (small.image_size, large.image_size) == ((32, 32), (48, 64))
    assert (small.tokens[0], large.tokens[0]) == (65, 193)
    assert large.macs == fvcore_count(model, torch.zeros(1, 3, 48, 64))
    assert costs(model, 64) == costs(model, (64, 64))


@pytest.mark.parametrize(
    ("family", "size", "message"),
    [
        ("vit", 48, "built for images of 32x32 pixels, got 48x48"),
        ("internvit", 33, "multiple of"),
        ("vit", 0, "image_size must be pixels"),
        ("vit", (32, 32, 32), "image_size must be pixels"),
        ("vit", True, "image_size must be pixels"),
        ("vit", "32", "image_size must be pixels"),
    ],
)
def test_impossible_image_sizes_are_refused(family: str, size: object, message: str) -> None:
    model = compose(toy(family, torch.float32))
    with pytest.raises(ValueError, match=message):
        costs(model, size)


def test_a_plain_timm_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got VisionTransformer; call vitrim\.compose first"):
        costs(toy())


def test_results_without_values_have_the_shapes_that_torch_gives_them() -> None:
    tokens, weight = torch.empty(2, 5, 6, device="meta"), torch.empty(6, device="meta")
    row, counts = weight[None, None], tokens.long()
    by_two = [(tokens, tokens), (tokens, weight), (weight, tokens), (tokens, row), (tokens, tokens[:, :1]),
              (tokens.transpose(0, 1), tokens.transpose(0, 1)), (tokens, tokens.double()), (tokens, 2),
              (counts, counts), (counts, tokens), (counts, 0.5), (tokens[:1, :1].expand(2, 5, 6), tokens),
              (tokens, weight.sum())]  # fmt: skip
    given: dict[str, list[tuple[Any, ...]]] = {
        **{f"aten::{name}.Tensor": by_two for name in ("add", "sub", "mul", "div")},
        "aten::mul.Scalar": [(tokens, 2), (tokens, 0.5), (counts, 2), (counts, 0.5)],
        "aten::clamp": [(tokens, 0.1), (tokens, None, 3), (counts, 0, 3), (counts, 0.5)],
        "aten::addmm": [(weight, tokens[0], torch.empty(6, 6, device="meta"))],
        "aten::native_layer_norm": [(tokens.transpose(0, 1), [6], weight, weight, 1e-5)],
        "aten::_safe_softmax": [(tokens, -1)],
        "aten::gelu": [(tokens,)],
    }
    assert {function.name() for function in SHAPES} == set(given)
    for function, shape in SHAPES.items():
        found = [shape(arguments) for arguments in given[function.name()]]
        assert found[0] is not None, function
        for ours, arguments in zip(found, given[function.name()], strict=True):
            if ours is not None:
                both = (ours, function(*arguments))
                pairs = [each if isinstance(each, tuple) else (each,) for each in both]
                for one, other in zip(*pairs, strict=True):
                    assert (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)
