"""The methods that the three papers compare with, as in their rows, and Houlsby's adapters."""

from vitrim.methods.first_blocks import FirstBlocks
from vitrim.methods.reducers import PYRA
from vitrim.methods.tuners import (
    SSF,
    VPT,
    Adapter,
    BitFit,
    Convpass,
    DyT,
    FacT,
    Full,
    LoRA,
    RepAdapter,
    ResTuning,
    SynQT,
)
from vitrim.network.method import Method
from vitrim.settings.recipes.recipe import Recipe


def row(
    methods: tuple[Method, ...], follows: str, advice: str, protocol: str, trained: int, gmacs: float
) -> Recipe:
    return Recipe(methods, follows, advice, protocol, {"trained": trained, "gmacs_paper": gmacs})


SEQUENTIAL = Adapter(width=8, form="sequential", activation="quickgelu", dropout=0.1)
BOTH = Adapter(width=8, form="sequential", beside=("attention", "mlp"), activation="quickgelu", dropout=0.1)

BASELINES: dict[str, Recipe] = {
    "linear": row(
        # No drop path, which a frozen backbone cannot adapt to
        (), "linear probing: only the classifier trains",
        "the floor every other recipe has to beat; trains in seconds", "vtab/sparse-tuning", 0, 17.582,
    ),
    "full": row(
        (Full(),), "full fine-tuning, as VPT trains it",
        "with plenty of images and memory; one whole model for each task", "vtab/full", 85_798_656, 17.582,
    ),
    "bitfit": row(
        (BitFit(),), "BitFit on ViT, as in VPT's code: all biases",
        "fewest parameters among those that fold; a little behind the others", "vtab/full", 102_912, 17.582,
    ),
    "ssf": row(
        (SSF(),), "SSF, arXiv 2210.08823, VTAB-1K setting",
        "scales and shifts after every layer; folds away after training", "vtab/ssf", 205_824, 17.582,
    ),
    "vpt-shallow": row(
        (VPT(prompts=100, deep=False),),
        "VPT, arXiv 2203.12119; tables tune the number of prompts by task, V-PETL takes 100",
        "prompts at the input alone; costs operations and is rarely best", "vtab/vpt", 76_800, 26.995,
    ),
    "vpt-deep": row(
        (VPT(prompts=8, dropout=0.1),),
        "VPT, arXiv 2203.12119, 8 prompts as in Sparse-Tuning (Table I); tuned by task elsewhere",
        "leaves every layer untouched; each prompt costs operations", "vtab/vpt", 73_728, 18.321,
    ),
    "adapter": row(
        (SEQUENTIAL,), "adapters behind the MLP (AdapterP in NOAH, arXiv 2206.04673), width 8",
        "the classic; stays in the model after training", "vtab/noah", 156_768, 17.611,
    ),
    "houlsby": row(
        (BOTH,), "Houlsby's adapters, arXiv 1902.00751: behind attention and MLP, at the width of the others",
        "where one adapter in each block is too little", "vtab/shared", 313_536, 17.640,
    ),
    "adaptformer": row(
        (Adapter(width=8, dropout=0.1, bias=False),),
        "AdaptFormer, arXiv 2205.13535, bias-free at width 8 as in FPET (Table 2)",
        "the strongest plain adapter; stays in the model after training", "vtab/shared", 147_456, 17.611,
    ),
    "bi-adaptformer": row(
        (Adapter(width=32, dropout=0.1, bias=False, bits=1),),
        "Bi-AdaptFormer, arXiv 2307.16867, one bit at width 32; scales vary by task",
        "AdaptFormer in files of 74 KB", "vtab/bi-adaptformer", 589_824, 17.698,
    ),
    "lora": row(
        (LoRA(rank=8, dropout=0.1),), "LoRA on query and value, rank 8, as in FPET (Table 2)",
        "folds away after training: inference costs exactly what the plain backbone costs",
        "vtab/shared", 294_912, 17.640,
    ),
    "bi-lora": row(
        (LoRA(rank=32, dropout=0.1, bits=1),),
        "Bi-LoRA, arXiv 2307.16867, one bit at rank 32; scales vary by task",
        "LoRA in files of 148 KB; folds away", "vtab/bi-lora", 1_179_648, 17.814,
    ),
    "repadapter": row(
        (RepAdapter(width=8, dropout=0.1),), "RepAdapter, arXiv 2302.08106; scales vary by task",
        "adapters that fold into the layers behind them", "vtab/repadapter", 239_808, 17.626,
    ),
    "pruned-repadapter": row(
        (FirstBlocks(count=10), RepAdapter(width=8, dropout=0.1)),
        "Pruned RepAdapter (FPET, Table 2): SLS on RepAdapter; vitrim prune finds how many blocks to keep",
        "a shallower network where a task needs no deep one; count=5 and so on", "vtab/repadapter",
        199_840, 14.707,
    ),
    "convpass": row(
        (Convpass(width=8, dropout=0.1),), "Convpass, arXiv 2207.07039; scales vary by task",
        "convolutions for tasks of position and shape; not with token reduction",
        "vtab/convpass", 327_552, 17.643,
    ),
    "fact-tt": row(
        (FacT(rank=16, dropout=0.1),), "FacT-TT, arXiv 2212.03145, rank 16; rank and scale vary by task",
        "fewest parameters of all that adapt weights; folds away", "vtab/fact-tt", 61_440, 18.112,
    ),
    "fact-tk": row(
        (FacT(rank=32, form="tk", dropout=0.1),), "FacT-TK, arXiv 2212.03145, rank 32; rank and scale vary",
        "as fact-tt, another factorisation", "vtab/fact-tk", 86_528, 18.661,
    ),
    "dyt": row(
        (DyT(width=8, rate=0.7, dropout=0.1),), "DyT, arXiv 2403.11808, r=0.7; experts=4 for its DyT N=4",
        "tokens skip MLPs instead of leaving: dense outputs stay whole; trains two passes a step",
        "vtab/dyt", 165_996, 14.326,
    ),
    "pyra": row(
        (LoRA(rank=8, dropout=0.1), PYRA()),
        "PYRA, arXiv 2403.09192, LoRA of rank 8, the low schedule of ViT-B",
        "half of the operations by merging in every block, modulated; only for 12 or 24 blocks",
        "vtab/pyra", 322_746, 8.816,
    ),
    "pyra-high": row(
        (LoRA(rank=8, dropout=0.1), PYRA(schedule="high")),
        "PYRA, arXiv 2403.09192, LoRA of rank 8, the high schedule of ViT-B",
        "less than a third of the operations, most merged in the first blocks", "vtab/pyra", 322_752, 5.099,
    ),
    "synqt": row(
        (SynQT(queries=4, dropout=0.1, drop_features=0.3, follows="release"),),
        "SynQT, arXiv 2407.06964; queries and scales vary by task",
        "little memory in training: no gradient enters the backbone", "vtab/synqt", 2_650_514, 17.893,
    ),
    "res-tuning-bypass": row(
        (ResTuning(),),
        "Res-Tuning, arXiv 2310.19859, the released bypass of length 32; no recipe was released",
        "many tasks for one pass of the backbone, little memory in training",
        "vtab/shared", 1_198_848, 17.814,
    ),
}  # fmt: skip
