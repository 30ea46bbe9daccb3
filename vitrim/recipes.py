"""Named compositions: which methods, after which paper, trained how, and the costs they must come to on
ViT-B/16.

`expects` holds what `vitrim.costs` has to give for ViT-B/16 at 224 pixels without a head, in the papers'
convention (GMACs; LayerNorm counted, head not); a test recomputes every entry.
"""

from dataclasses import dataclass, field, replace

from vitrim.method import Method
from vitrim.protocols import find_protocol
from vitrim.reducers import EViT
from vitrim.training import Training
from vitrim.tuners import Adapter, DenseAdapter, FisherDelta, LoRA


@dataclass(frozen=True)
class Recipe:
    """A composition that has a name.

    Attributes:
        methods: what is attached to the backbone, in order.
        follows: the paper, and the row of it, that the recipe follows.
        advice: one line on when to use it.
        protocol: name of the published training protocol, or of the nearest that is published where the
            paper is silent.
        expects: "trained" parameters and "gmacs_paper" on ViT-B/16.
    """

    methods: tuple[Method, ...]
    follows: str
    advice: str
    protocol: str = "vtab/shared"
    expects: dict[str, float] = field(default_factory=dict)

    @property
    def training(self) -> Training:
        """How its protocol optimises. Which images, and the mean and std they are normalised with, belong to
        the protocol's benchmark and checkpoint: they come with `--protocol NAME` alone."""
        return replace(
            find_protocol(self.protocol).training,
            train_split="train", normalise="checkpoint", interpolation="checkpoint", test_crop=1.0,
        )  # fmt: skip


RECIPES: dict[str, Recipe] = {
    "sparse-tuning": Recipe(
        methods=(DenseAdapter(width=8), EViT(keep=0.7, at=(3, 6, 9))),
        follows="Sparse-Tuning, arXiv 2405.14700, VTAB-1K setting (Table II), trained as DyT",
        advice="few parameters and a third fewer operations; the default",
        protocol="vtab/sparse-tuning",
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
    "tr-pts": Recipe(
        # By block and with a bound of ours: the paper trains 0.34 %, its equation alone ten times and more
        methods=(FisherDelta(layer="block", most=4), EViT(keep=0.95, at="sparse", rounding="floor")),
        follows="TR-PTS, arXiv 2507.22872, VTAB-1K: top 1 %, one connection, rho = .95; trained as GPS",
        advice="trains the backbone weights that the task itself chooses; thins tokens where it needs fewest",
        protocol="vtab/tr-pts",
    ),
    "gps": Recipe(
        methods=(
            FisherDelta(
                top=None, connections=1, score="gradient", loss="contrastive", biases=True, patch=True
            ),
        ),
        follows="GPS, arXiv 2312.10136, VTAB-1K setting: one connection per neuron, and all biases of those",
        advice="one weight of every neuron, by gradient; folds away after training",
        protocol="vtab/gps",
        expects={"trained": 167_424, "gmacs_paper": 17.582},
    ),
    "linear": Recipe(
        methods=(),
        follows="linear probing: only the classifier trains",
        advice="the floor every other recipe has to beat; trains in seconds",
        expects={"trained": 0, "gmacs_paper": 17.582},
    ),
}
