"""Recipes: what they cost, what they follow, and their changed forms."""

from dataclasses import replace

import pytest

from vitrim import RECIPES, Adapter, DenseAdapter, DyT, EViT, compose, parse_method
from vitrim.measuring.costs import paper_macs
from vitrim.network.copying import copied
from vitrim.papers.reading import plain
from vitrim.papers.verdicts import PAPERS
from vitrim.settings.protocols import PROTOCOLS
from vitrim.settings.recipes import find_recipe

BY_DATA = {"tr-pts"}  # its weights and blocks are chosen by the training images
BY_IMAGE = {"bi-adaptformer-ltmp"}  # how many tokens stay depends on the image


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_costs_what_it_says(name: str) -> None:
    recipe = RECIPES[name]
    classes = None if recipe.video is None else 400
    model = compose(
        copied(plain("vit_base_patch16_224")),
        *recipe.methods,
        num_classes=classes,
        video=recipe.video,
    )
    trained = {name: weight.numel() for name, weight in model.trained().items()}
    left = ("vit.head.", "clip_pool.")
    count = sum(number for name, number in trained.items() if not name.startswith(left))
    counted = {"trained": count, "gmacs_paper": round(paper_macs(model, spend=True) / 1e9, 3)}
    left_out = set() if name not in BY_DATA | BY_IMAGE else {"gmacs_paper"}
    left_out |= {"trained"} if name in BY_DATA else set()
    assert recipe.expects == {key: value for key, value in counted.items() if key not in left_out}


def test_every_row_whose_methods_exist_has_a_recipe() -> None:
    """Rows of Sparse-Tuning's Tables I to IV, FPET's 1, 2, 3, A3 and TR-PTS's 2."""
    rows = """full linear bitfit ssf vpt-shallow vpt-deep adapter adaptformer lora convpass fact-tt fact-tk
        repadapter dyt bi-lora bi-adaptformer gps tr-pts sparse-tuning sparse-tuning-dynamicvit
        sparse-tuning-tome adaptformer-evit adaptformer-dynamicvit adaptformer-tome adapter-tome lora-evit
        lora-dynamicvit dyt-tome fpet-lora fpet-adaptformer fpet-repadapter fpet-bi-lora fpet-bi-adaptformer
        adaptformer-pool bi-adaptformer-tome bi-adaptformer-ltmp video-linear
        video-full video-adaptformer video-vpt video-dyt video-sparse-tuning"""
    assert set(rows.split()) <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_where_it_comes_from_and_how_it_trains(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.protocol in PROTOCOLS
    assert recipe.training.epochs > 0
    assert recipe.follows and recipe.advice
    assert "\n" not in recipe.advice


def test_changed_forms() -> None:
    narrow = find_recipe("sparse-tuning(width=32, keep=0.5)")
    assert narrow.methods == (DenseAdapter(width=32), EViT(keep=0.5))
    assert (narrow.protocol, narrow.expects) == ("vtab/sparse-tuning", {})
    assert find_recipe("sparse-tuning(EViT(keep=0.5, at=(4, 8)), width=16)").methods == (
        DenseAdapter(width=16),
        EViT(keep=0.5, at=(4, 8)),
    )
    assert find_recipe("sparse-tuning") is RECIPES["sparse-tuning"]
    assert find_recipe("sparse-tuning()").methods == RECIPES["sparse-tuning"].methods
    assert RECIPES["sparse-tuning"].changed({"width": 32}).methods[0] == DenseAdapter(width=32)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sparse-tunin", "no recipe 'sparse-tunin'; did you mean sparse-tuning"),
        ("sparse-tuning(wdth=3)", "no method of the recipe has a setting 'wdth'; did you mean width"),
        ("fpet-lora(dropout=0.0)", "dropout is a setting of LoRA and of Bipartite; say whose"),
        ("lora(EViT(keep=0.5))", "the recipe has no EViT to change; it has LoRA"),
        ("lora(LoRA(rnk=5))", "LoRA has no setting 'rnk'; did you mean rank"),
        ("lora(LoRA(5))", "name the settings that change in 'LoRA(5)'"),
        ("lora(LoRa(rank=5))", "no method 'LoRa'; did you mean LoRA"),
        ("lora(rank=", "cannot read the changes '(rank=' of a recipe"),
        ("lora(rank=os.x)", "cannot read the changes"),
        (
            "sparse-tuning(width=32, EViT(keep=0.5))",
            "sparse-tuning(EViT(at=(4, 8)), width=32) with methods first",
        ),
        ("lora(rank=0)", "rank must be a whole number"),
        ("linear(rank=4)", "no method of the recipe has a setting 'rank'; it has no methods"),
        ("lora(rank=4)(dropout=0.0)", "cannot read the changes"),
        ("lora(rank=4, rank=8)", "rank is given twice"),
        ("lora(**{'rank': 4})", "cannot read the changes"),
        ("lora(rank={[]: 4})", "cannot read the changes"),
        ("lora(rank=4)#", "cannot read the changes"),
    ],
)
def test_impossible_changes_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        find_recipe(text)
    assert message in str(refusal.value)


ABLATIONS = {
    ("I", "Sparse-Tuning"): "sparse-tuning(width=32)",
    ("VI", "(a) x_N"): "sparse-tuning(width=32, reads=())",
    ("VI", "(c) x_N+x_DA(N-3)"): "sparse-tuning(width=32, reads=(3,))",
    ("VII", "(a) Input"): "sparse-tuning(width=32, fusion='input')",
    ("VIII", "Drop"): "sparse-tuning(width=32, fuse='drop')",
    ("VIII", "Argmax"): "sparse-tuning(width=32, fuse='argmax')",
    ("IX", "[2,5,8]"): "sparse-tuning(width=32, at=(1, 4, 7))",
    ("X", "d=128"): "sparse-tuning(width=128)",
    ("XII", "interval 4"): "sparse-tuning(EViT(at=(3, 7, 11)), width=32)",
    ("II", "Sparse-Tuning r=0.9"): "sparse-tuning(keep=0.9)",
    ("IV", "DyT"): "dyt(rate=0.5)",
    ("I", "DyT N=4"): "dyt(width=64, rate=0.5, experts=4)",
    ("A2", "AdaptFormer d=1"): "adaptformer(width=1)",
    ("A3", "layer 4 BDM"): "fpet-adaptformer(at=(4,))",
    ("A3", "layer 4 BSM"): "fpet-adaptformer(at=(4,), learned=False)",
    ("A3", "layer 1 Max Pool"): "adaptformer-pool(at=(1,), kind='max')",
}


@pytest.mark.parametrize(("table", "row"), ABLATIONS)
def test_ablations_are_changed_recipes(table: str, row: str) -> None:
    """What the ledger counts for a row is what the changed recipe composes, dropout in training aside."""
    tables = [one for paper in PAPERS.values() for one in paper.tables if one.name == table]
    (found,) = [line for one in tables for line in one.rows if line.name == row]
    changed = find_recipe(ABLATIONS[table, row]).methods
    without = {replace(one, dropout=0.0) if isinstance(one, Adapter | DyT) else one for one in changed}
    assert without == {parse_method(text) for text in found.reading.methods.split("; ")}
