"""Rows of Sparse-Tuning's Table I on Kinetics-400 and Something-Something V2: 8 frames, DyT's pooling.

Nothing in these rows knows the order of frames; `--video "Video(temporal_embed='learned')"` beside a recipe
adds it.
"""

from vitrim.methods.reducers import EViT
from vitrim.methods.tuners import VPT, Adapter, DenseAdapter, DyT, Full
from vitrim.network.method import Method
from vitrim.settings.recipes.recipe import Recipe
from vitrim.video.settings import Video

PAPER = "Sparse-Tuning, arXiv 2405.14700, Table I, video"


def row(methods: tuple[Method, ...], name: str, advice: str, trained: int, gmacs: float) -> Recipe:
    return Recipe(
        methods,
        follows=f"{PAPER}, {name}",
        advice=advice,
        protocol="k400/dyt",
        expects={"trained": trained, "gmacs_paper": gmacs},
        video=Video(),
    )


VIDEO: dict[str, Recipe] = {
    "video-linear": row(
        (), "Linear", "clips: classifier and pooling of frames alone, the floor", 0, 142.531
    ),
    "video-full": row(
        (Full(),), "Full fine-tuning", "clips: with plenty of them; one whole model for each task",
        85_798_656, 142.531,
    ),
    "video-adaptformer": row(
        (Adapter(width=64, scale=0.1, dropout=0.1),), "AdaptFormer",
        "clips: the strongest plain adapter; every token of every frame runs", 1_189_632, 144.39,
    ),
    "video-vpt": row(
        (VPT(prompts=8, dropout=0.1),), "VPT",
        "clips: leaves every layer untouched; prompts in every frame cost operations", 73_728, 148.447,
    ),
    "video-dyt": row(
        (DyT(width=64, rate=0.5, scale=0.1, dropout=0.1),), "DyT",
        "clips: tokens skip MLPs instead of leaving; trains two passes a step", 1_198_860, 99.976,
    ),
    "video-sparse-tuning": row(
        (DenseAdapter(width=32), EViT(keep=0.7, at=(3, 6, 9))), "Sparse-Tuning",
        "clips: a third fewer operations in every frame and in their pooling", 1_091_584, 94.706,
    ),
}  # fmt: skip
