"""FPET, arXiv 2503.20282: tokens halved once, at the 7th block, by refined matching of a checkerboard.

Other ways to halve are changed forms: `fpet-adaptformer(learned=False, split="alternate")` is single-layer
soft matching, `fpet-adaptformer(Bipartite(at=(4,)))` a row of Table A3.
"""

from vitrim.methods.reducers import LTMP, Bipartite, Pool, ToMe
from vitrim.methods.tuners import Adapter, LoRA, RepAdapter
from vitrim.network.method import Method
from vitrim.settings.recipes.recipe import Recipe

PAPER = "FPET, arXiv 2503.20282"
HALVE = Bipartite(at=(6,))
ADAPTFORMER = Adapter(width=8, dropout=0.1, bias=False)
BI_ADAPTFORMER = Adapter(width=32, dropout=0.1, bias=False, bits=1)
BI_LORA = LoRA(rank=32, dropout=0.1, bits=1)


def row(methods: tuple[Method, ...], name: str, advice: str, trained: int, gmacs: float | None) -> Recipe:
    """A row of the paper's tables; operations are None where they depend on the image."""
    return Recipe(
        methods,
        follows=f"{PAPER}, {name}",
        advice=advice,
        protocol="vtab/fpet",
        expects={"trained": trained} | ({} if gmacs is None else {"gmacs_paper": gmacs}),
    )


FPET: dict[str, Recipe] = {
    "fpet-lora": row(
        (LoRA(rank=8, dropout=0.1), HALVE), "FPET-LoRA (Tables 1 and 2)",
        "LoRA's accuracy with a quarter fewer operations; all but the matching folds away", 299_008, 13.479,
    ),
    "fpet-adaptformer": row(
        (ADAPTFORMER, HALVE), "FPET-AdaptFormer (Tables 1 and 2)",
        "AdaptFormer's accuracy with a quarter fewer operations, in training too", 151_552, 13.455,
    ),
    "fpet-repadapter": row(
        (RepAdapter(width=8, dropout=0.1), HALVE), "FPET-RepAdapter (Tables 1 and 2)",
        "as fpet-lora, with adapters that fold into the layers behind them", 243_904, 13.467,
    ),
    "fpet-bi-lora": row(
        (BI_LORA, HALVE), "FPET-Bi-LoRA (Tables 1 and 2)",
        "where files count: 148 KB for each task, a quarter fewer operations", 1_183_744, 13.617,
    ),
    "fpet-bi-adaptformer": row(
        (BI_ADAPTFORMER, HALVE), "FPET-Bi-AdaptFormer (Tables 1 and 2)",
        "FPET's best: 74 KB for each task, a quarter fewer operations", 593_920, 13.520,
    ),
    "adaptformer-pool": row(
        (ADAPTFORMER, Pool(at=(6,))), "AdaptFormer with pooling (Table A3); which pairs is our choice",
        "the plainest way to halve tokens; needs the full grid", 147_456, 13.446,
    ),
    "bi-adaptformer-tome": row(
        (BI_ADAPTFORMER, ToMe(r=8)), "Bi-AdaptFormer with ToMe (Table 3)",
        "merging in every block instead of once; no saving of training memory to speak of", 589_824, 13.207,
    ),
    "bi-adaptformer-ltmp": row(
        (BI_ADAPTFORMER, LTMP()), "Bi-AdaptFormer with LTMP (Table 3)",
        "as many tokens as each image needs; faster for single images only", 589_848, None,
    ),
}  # fmt: skip
