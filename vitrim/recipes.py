"""Named compositions: which methods, after which paper, trained how, and the costs they must come to on
ViT-B/16.

`expects` holds what `vitrim.costs` has to give for ViT-B/16 at 224 pixels without a head, in the papers'
convention (GMACs; LayerNorm counted, head not); a test recomputes every entry.
"""

from dataclasses import dataclass, field

from vitrim.method import Method
from vitrim.reducers import EViT
from vitrim.training import Training
from vitrim.tuners import Adapter, DenseAdapter, LoRA


@dataclass(frozen=True)
class Recipe:
    """A composition that has a name.

    Attributes:
        methods: what is attached to the backbone, in order.
        follows: the paper, and the row of it, that the recipe follows.
        advice: one line on when to use it.
        training: the published protocol, or the nearest that is published where the paper is silent.
        expects: "trained" parameters and "gmacs_paper" on ViT-B/16.
    """

    methods: tuple[Method, ...]
    follows: str
    advice: str
    training: Training = field(default_factory=Training)
    expects: dict[str, float] = field(default_factory=dict)


RECIPES: dict[str, Recipe] = {
    "sparse-tuning": Recipe(
        methods=(DenseAdapter(width=8), EViT(keep=0.7, at=(3, 6, 9))),
        follows="Sparse-Tuning, arXiv 2405.14700, VTAB-1K setting (Table II), trained as DyT",
        advice="few parameters and a third fewer operations; the default",
        expects={"trained": 279_808, "gmacs_paper": 11.654},
    ),
    "lora": Recipe(
        methods=(LoRA(rank=8),),
        follows="LoRA on query and value, rank 8, as in FPET (Table 2)",
        advice="folds away after training: inference costs exactly what the plain backbone costs",
        expects={"trained": 294_912, "gmacs_paper": 17.640},
    ),
    "adaptformer": Recipe(
        methods=(Adapter(width=8, bias=False),),
        follows="AdaptFormer, arXiv 2205.13535, bias-free at width 8 as in FPET (Table 2)",
        advice="the strongest plain adapter; stays in the model after training",
        expects={"trained": 147_456, "gmacs_paper": 17.611},
    ),
    "linear": Recipe(
        methods=(),
        follows="linear probing: only the classifier trains",
        advice="the floor every other recipe has to beat; trains in seconds",
        expects={"trained": 0, "gmacs_paper": 17.582},
    ),
}
