"""Sparse-Tuning, arXiv 2405.14700, and the combinations of its Table IV, whose caption says keep rate 0.5."""

from vitrim.methods.reducers import DynamicViT, EViT, ToMe
from vitrim.methods.tuners import Adapter, DenseAdapter, DyT, LoRA
from vitrim.network.method import Method
from vitrim.settings.recipes.recipe import Recipe

PAPER = "Sparse-Tuning, arXiv 2405.14700"
DENSE = DenseAdapter(width=8)
DROPPED, MERGED = DynamicViT(keep=0.5, at=(3, 6, 9)), ToMe(r=16)
FUSED = EViT(keep=0.5, at=(3, 6, 9))
PARALLEL = Adapter(width=8, dropout=0.1)
SEQUENTIAL = Adapter(width=8, form="sequential", activation="quickgelu", dropout=0.1)
LOW_RANK = LoRA(rank=8, dropout=0.1)


def row(methods: tuple[Method, ...], name: str, advice: str, trained: int, gmacs: float) -> Recipe:
    """A row of Table IV."""
    return Recipe(
        methods,
        follows=f"{PAPER}, Table IV, {name}, VTAB-1K",
        advice=advice,
        protocol="vtab/sparse-tuning",
        expects={"trained": trained, "gmacs_paper": gmacs},
    )


SPARSE_TUNING: dict[str, Recipe] = {
    "sparse-tuning": Recipe(
        methods=(DENSE, EViT(keep=0.7, at=(3, 6, 9))),
        follows=f"{PAPER}, VTAB-1K setting (Table II), trained as DyT; width=32 for full data sets (Table I)",
        advice="few parameters and a third fewer operations; the default",
        protocol="vtab/sparse-tuning",
        expects={"trained": 279_808, "gmacs_paper": 11.654},
    ),
    "sparse-tuning-dynamicvit": row(
        (DENSE, DROPPED), "Sparse-Tuning (DynamicViT)",
        "tokens dropped by learned predictors: half the operations, ten times the parameters",
        3_164_998, 8.593,
    ),
    "sparse-tuning-tome": row(
        (DENSE, MERGED), "Sparse-Tuning (ToMe)",
        "tokens merged by likeness in every block: half the operations, no class token needed",
        279_808, 8.807,
    ),
    "adaptformer-evit": row(
        (PARALLEL, FUSED), "AdaptFormer+EViT",
        "half the operations with AdaptFormer's parameters; dense adapters make up for more of the loss",
        156_768, 8.842,
    ),
    "adaptformer-dynamicvit": row(
        (PARALLEL, DROPPED), "AdaptFormer+DynamicViT",
        "where predictors may be trained along", 3_041_958, 8.584
    ),
    "adaptformer-tome": row(
        (PARALLEL, ToMe(r=8)), "AdaptFormer+ToMe",
        "a quarter fewer operations, nothing dropped", 156_768, 13.143
    ),
    "adapter-tome": row(
        (SEQUENTIAL, MERGED), "Adapter+ToMe",
        "half the operations by merging, with a sequential adapter", 156_768, 8.797
    ),
    "lora-evit": row(
        (LOW_RANK, FUSED), "LoRA+EViT",
        "half the operations and nothing left of the tuner after folding", 294_912, 8.860
    ),
    "lora-dynamicvit": row(
        (LOW_RANK, DROPPED), "LoRA+DynamicViT",
        "as lora-evit, with learned predictors that stay", 3_180_102, 8.598
    ),
    "dyt-tome": row(
        (DyT(width=8, rate=0.5, dropout=0.1), ToMe(r=8)), "DyT+ToMe",
        "tokens merged, and half of the others skip the MLP", 165_996, 9.064,
    ),
}  # fmt: skip
