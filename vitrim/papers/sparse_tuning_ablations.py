"""Sparse-Tuning's ablations and its ViT-L rows. Blocks count from 0 here, layers from 1 in the paper."""

from vitrim.papers.reading import VIT_L, Reading
from vitrim.papers.tables import Row, Table

TWO = ("Params(M)", "GFLOPs")
EVIT, DENSE = "EViT(keep=0.7)", "DenseAdapter(width=32)"
BOTH = Reading(f"{DENSE}; {EVIT}")
USUAL = ("dense-constant", "evit-offset")
INPUT = Reading(f"DenseAdapter(width=32, fusion='input'); {EVIT}")
OUTPUT = "DenseAdapter(width=32, fusion='output')"


def reads(distances: str) -> Reading:
    return Reading(f"DenseAdapter(width=32, reads={distances}); {EVIT}")


def at(layers: list[int], dense: str = DENSE, keep: str = "0.7", backbone: str = "") -> Reading:
    """Tokens reduced at these layers, counted from 1 as in the paper."""
    methods = f"{dense}; EViT(keep={keep}, at={tuple(layer - 1 for layer in layers)})"
    return Reading(methods, backbone) if backbone else Reading(methods)


TABLE_5 = Table(
    "V",
    "token sparsification and dense adapters, alone and together",
    TWO,
    (
        Row("(a) none", ("0", "17.58"), Reading()),
        Row("(b) TS", ("0", "10.81"), Reading(EVIT), why=("", "ts-alone"),
            also={"GFLOPs": (("at the 3rd, 6th and 9th layer with the adapters", at([3, 6, 9])),)}),
        Row("(c) DA", ("1.10", "17.89"), Reading(DENSE), why=("dense-constant", "da-alone"),
            also={"GFLOPs": (("output fusion", Reading(OUTPUT)),)}),
        Row("(d) TS+DA", ("1.10", "11.70"), BOTH, why=USUAL),
    ),
)  # fmt: skip
TABLE_6 = Table(
    "VI",
    "what a dense adapter reads",
    TWO,
    (
        Row("(a) x_N", ("0.69", "11.19"), reads("()"), why=("dense-with-head", "below-evit")),
        Row("(b) x_N+x_DA(N-1)", ("0.95", "11.67"), reads("(1,)"), why=("dense-with-head", "evit-offset")),
        Row("(c) x_N+x_DA(N-3)", ("0.95", "11.67"), reads("(3,)"),
            why=("fewer-third-paths", "evit-offset")),
        Row("(d) all", ("1.10", "11.70"), BOTH, why=USUAL),
    ),
)  # fmt: skip
TABLE_7 = Table(
    "VII",
    "where a dense adapter fuses",
    TWO,
    (
        Row("(a) Input", ("0.69", "11.19"), INPUT, why=("dense-with-head", "below-evit")),
        Row("(b) Inner", ("1.10", "11.70"), BOTH, why=USUAL),
        Row("(c) Output", ("1.68", "11.81"), Reading(f"{OUTPUT}; {EVIT}"),
            why=("dense-with-head", "evit-no-offset")),
    ),
)  # fmt: skip
TABLE_8 = Table(
    "VIII",
    "what becomes of inattentive tokens",
    TWO,
    (
        Row("Drop", ("1.10", "11.61"), Reading(f"{DENSE}; EViT(keep=0.7, fuse='drop')"),
            why=("dense-constant", "drop-no-norms")),
        Row("Argmax", ("1.10", "11.70"), Reading(f"{DENSE}; EViT(keep=0.7, fuse='argmax')"), why=USUAL),
        Row("Merge", ("1.10", "11.70"), BOTH, why=USUAL),
    ),
)  # fmt: skip
TABLE_9 = Table(
    "IX",
    "the layers at which tokens are reduced",
    TWO,
    tuple(
        Row(f"[{first},{first + 3},{first + 6}]", ("1.10", gflops), at([first, first + 3, first + 6]),
            why=("dense-constant-every-start", "evit-offset" if first == 4 else "steps"))
        for first, gflops in ((2, "10.78"), (3, "11.35"), (4, "11.70"), (5, "12.73"), (6, "13.68"))
    ),
)  # fmt: skip
TABLE_10 = Table(
    "X",
    "width of the dense adapter",
    TWO,
    tuple(
        Row(f"d={width}", printed, Reading(f"DenseAdapter(width={width}); {EVIT}"), why=USUAL)
        for width, printed in (
            (8, ("0.29", "11.60")),
            (16, ("0.56", "11.63")),
            (32, ("1.10", "11.70")),
            (64, ("2.18", "11.83")),
            (128, ("4.35", "12.09")),
        )
    ),
)
TABLE_11 = Table(
    "XI",
    "the first layer at which tokens are reduced, every third from there",
    TWO,
    (
        # The third path is taken to begin at the starting layer
        Row("start 3", ("1.13", "11.78"), Reading(at([3, 6, 9]).methods, extra_path=(2, 1)),
            why=("start-undefined", "start-trend")),
        Row("start 4", ("1.10", "11.70"), BOTH, why=USUAL),
        Row("start 5", ("1.07", "11.61"), Reading(at([5, 8, 11]).methods, extra_path=(3, -1)),
            why=("start-path", "start-trend")),
    ),
)  # fmt: skip
TABLE_12 = Table(
    "XII",
    "how many layers lie between reductions, from the 4th layer on",
    TWO,
    (
        Row("interval 2", ("1.10", "11.13"), at([4, 6, 8, 10, 12]), why=("dense-constant", "interval"),
            also={"GFLOPs": (("at 4, 6, 8 and 10", at([4, 6, 8, 10])), ("at 4, 6 and 8", at([4, 6, 8])))}),
        Row("interval 3", ("1.10", "11.70"), BOTH, why=USUAL),
        Row("interval 4", ("1.10", "14.13"), at([4, 8, 12]), why=("dense-constant", "interval"),
            also={"GFLOPs": (("at 4 and 8", at([4, 8])),)}),
    ),
)  # fmt: skip


def large(name: str, printed: tuple[str, str], keep: str) -> Row:
    """Sparse-Tuning on ViT-L; the layers are not stated."""
    others = (("at the 4th, 7th and 10th layer", [4, 7, 10]), ("at the 8th, 14th and 20th", [8, 14, 20]))
    return Row(
        name,
        printed,
        at([7, 13, 19], keep=keep, backbone=VIT_L),
        why=("restart", "layers-unstated"),
        otherwise={"Params(M)": Reading("DenseAdapter(width=32, restart=12)", VIT_L)},
        also={
            "Params(M)": (("connected through all 24 layers", Reading(DENSE, VIT_L)),),
            "GFLOPs": tuple((words, at(layers, keep=keep, backbone=VIT_L)) for words, layers in others),
        },
    )


TABLE_13 = Table(
    "XIII",
    "ViT-L",
    TWO,
    (
        Row("Full fine-tuning", ("303.3", "61.60"), Reading("Full()", VIT_L)),
        *(
            Row(f"DyT r={rate}", ("3.17", gflops),
                Reading(f"DyT(width=64, rate={rate})", VIT_L, without="dispatchers"),
                why=("no-dispatchers", "activation"))
            for rate, gflops in (("0.5", "43.79"), ("0.7", "51.11"), ("0.9", "60.05"))
        ),
        large("Sparse-Tuning r=0.5", ("2.93", "30.63"), "0.5"),
        large("Sparse-Tuning r=0.7", ("2.93", "40.08"), "0.7"),
        large("Sparse-Tuning r=0.9", ("2.93", "53.78"), "0.9"),
    ),
)  # fmt: skip

ABLATIONS = (TABLE_5, TABLE_6, TABLE_7, TABLE_8, TABLE_9, TABLE_10, TABLE_11, TABLE_12, TABLE_13)
