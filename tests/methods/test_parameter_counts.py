"""How many parameters train on ViT-B/16, without the classifier: every tuner and printed setting."""

import pytest

import vitrim
from vitrim.backbones.shapes import shapes_only
from vitrim.settings.recipes.noah import RELEASED_SUBNETS

GPS = "FisherDelta(top=None, connections={}, score='gradient', loss='contrastive', biases=True, patch=True)"
COUNTS = {
    "Full()": 85_798_656,
    "Linear()": 0,
    "Linear(bits=1)": 0,
    "VPT(prompts=1, deep=False)": 768,
    "VPT(prompts=10, deep=False)": 7_680,
    "VPT(prompts=100, deep=False)": 76_800,
    "VPT(prompts=8)": 73_728,
    "VPT(prompts=10)": 92_160,
    "VPT(prompts=50)": 460_800,
    "VPT(prompts=100)": 921_600,
    "BitFit()": 102_912,
    "LayerNormTuning()": 38_400,
    "SSF()": 205_824,
    "Adapter(width=8)": 156_768,
    "Adapter(width=16)": 304_320,
    "Adapter(width=64)": 1_189_632,
    "Adapter(width=8, bias=False)": 147_456,
    "Adapter(width=32, bias=False)": 589_824,
    "Adapter(width=32, bias=False, bits=1)": 589_824,
    "Adapter(width=8, norm='in')": 156_768 + 2 * 12 * 768,
    "Adapter(width=8, form='sequential', beside=('attention', 'mlp'))": 313_536,
    "Adapter(width=64, form='sequential', beside=('attention', 'mlp'))": 2_379_264,
    "Adapter(width=6, form='sequential')": 119_880,
    "Adapter(width=12, form='sequential')": 230_544,
    "Adapter(width=96, form='sequential')": 1_779_840,
    "DenseAdapter(width=8)": 279_808,
    "DenseAdapter(width=16)": 550_400,
    "DenseAdapter(width=32)": 1_091_584,
    "DenseAdapter(width=64)": 2_173_952,
    "DenseAdapter(width=128)": 4_338_688,
    "DenseAdapter(width=32, bias=False)": 1_091_584 - 12 * 768 - 32 * 32,
    "DenseAdapter(width=32, fusion='input')": 599_424,
    "DenseAdapter(width=32, fusion='output')": 1_598_464,
    "DenseAdapter(follows='release')": 1_314_432,
    "LoRA(rank=8)": 294_912,
    "LoRA(rank=8, roles=('query', 'key', 'value'), shared=True)": 294_912,
    "LoRA(rank=16)": 589_824,
    "LoRA(rank=32)": 1_179_648,
    "LoRA(rank=64)": 2_359_296,
    "LoRA(rank=32, bits=1)": 1_179_648,
    "Convpass()": 327_552,
    "Convpass(beside=('attention',))": 163_776,
    "FacT(rank=4)": 8_448,
    "FacT(rank=8)": 21_504,
    "FacT(rank=16)": 61_440,
    "FacT(rank=16, form='tk')": 30_976,
    "FacT(rank=32, form='tk')": 86_528,
    "RepAdapter()": 239_808,
    "RepAdapter(before='attention')": 119_904,
    "DyT(width=8)": 165_996,
    "DyT(width=64)": 1_198_860,
    "DyT(width=64, experts=4)": 4_804_668,
    **{GPS.format(k): 83_712 * (k + 1) for k in (1, 2, 15, 20)},
    "SynQT(queries=1, follows='release')": 2_622_866,
    "SynQT(queries=4, follows='release')": 2_650_514,
    "SynQT(queries=16, follows='release')": 2_761_106,
    "SynQT(queries=1)": 2_622_866 - 12 * 2 * 768 - 37,  # without what nothing reads
    "ResTuning()": 1_198_848,
    "ResTuning(form='adapter')": 1_198_848 // 2,
    "ResTuning(form='prefix')": 2 * 12 * 32 * 768,
    "ResTuning(form='prompt', length=8)": 73_728,
    "Bipartite()": 4_096,
    "LTMP()": 24,
    "DynamicViT()": 2_885_190,
    "PYRA()": 186 + 12 * 3 * 768,
    "PYRA(schedule='high')": 192 + 12 * 3 * 768,
}


def trained_outside_the_head(*methods: str) -> int:
    with shapes_only():
        model = vitrim.compose("vit_base_patch16_224", *methods, num_classes=100)
    counts = {name: parameter.numel() for name, parameter in model.trained().items()}
    return sum(count for name, count in counts.items() if not name.startswith("vit.head."))


@pytest.mark.parametrize("method", COUNTS)
def test_count_on_vit_base(method: str) -> None:
    assert trained_outside_the_head(method) == COUNTS[method]


def test_counts_add_up() -> None:
    assert trained_outside_the_head("Bipartite()", "LoRA(rank=8)") == 299_008
    assert trained_outside_the_head("Bipartite()", "Adapter(width=32, bias=False, bits=1)") == 593_920


def test_noahs_released_subnets() -> None:
    """Their mean and range, from widths; one of them composed."""
    counts = {task: subnet.parameters(768) for task, subnet in RELEASED_SUBNETS.items()}
    assert len(counts) == 19 and round(sum(counts.values()) / 19) == 360_134
    assert (round(min(counts.values()), -3), round(max(counts.values()), -3)) == (287_000, 432_000)
    methods = map(repr, RELEASED_SUBNETS["dtd"].methods())
    assert trained_outside_the_head(*methods) == counts["dtd"]


@pytest.mark.parametrize("kept", [1, 10])
def test_pruned_repadapter(kept: int) -> None:
    """.221 M x kept / 12 by weights alone, .240 M with biases."""
    with shapes_only():
        model = vitrim.compose(
            "vit_base_patch16_224", f"FirstBlocks(count={kept})", "RepAdapter()", num_classes=2
        )
    adapted = {name: each for name, each in model.trained().items() if not name.startswith("vit.head.")}
    assert sum(each.numel() for each in adapted.values()) == 239_808 * kept // 12
    weights = sum(each.numel() for name, each in adapted.items() if not name.endswith("bias"))
    assert weights == 221_184 * kept // 12


@pytest.mark.parametrize("name", vitrim.METHODS)
def test_every_method_says_how_many_parameters_it_trains(name: str) -> None:
    """Of ViT-B/16, with its defaults: the docstring has the number, and this recomputes it."""
    count = trained_outside_the_head(f"{name}()")
    assert not count or f"{count:,}" in str(vitrim.METHODS[name].__doc__), (
        f"write into the docstring of {name} that it trains {count:,} parameters of ViT-B/16"
    )
