"""Sparse-Tuning, arXiv 2405.14700: tables of results. Tables of ablations are in the next file."""

from vitrim.papers.prompts import VTAB_DEEP, mean_of_groups, mean_of_synqt, released_subnets
from vitrim.papers.reading import Reading
from vitrim.papers.sparse_tuning_ablations import ABLATIONS
from vitrim.papers.tables import Paper, Row, Table

TWO = ("Params(M)", "GFLOPs")
THREE = ("Params(M)", "GFLOPs img", "GFLOPs video")

FULL, LINEAR = Reading("Full()"), Reading()
ADAPTER_64 = Reading("Adapter(width=64, form='sequential')")
ADAPTFORMER_64 = Reading("Adapter(width=64)")
LORA_32 = Reading("LoRA(rank=32)", folded=True)
LORA_8 = Reading("LoRA(rank=8)", folded=True)
VPT_8 = Reading("VPT(prompts=8)")
DYT = Reading("DyT(width=64, rate=0.5)", without="dispatchers")
DYT_4 = Reading("DyT(width=64, rate=0.5, experts=4)", without="dispatchers")
SPARSE_32 = Reading("DenseAdapter(width=32); EViT(keep=0.7, at=(3, 6, 9))")
# Ranks that the released configurations of FacT-TT give the 19 tasks
FACT = Reading((("FacT(rank=4)", 1), ("FacT(rank=8)", 9), ("FacT(rank=16)", 9)), folded=True)

TABLE_1 = Table(
    "I",
    "full image and video data sets",
    THREE,
    (
        Row("Full fine-tuning", ("85.80", "17.58", "142.53"), FULL),
        Row("Linear", ("0", "17.58", "142.53"), LINEAR),
        Row("Adapter", ("1.19", "17.81", "144.39"), ADAPTER_64),
        Row("AdaptFormer", ("1.19", "17.81", "144.39"), ADAPTFORMER_64),
        Row("LoRA", ("1.19", "17.58", "142.53"), LORA_32, why=("lora-copied", "folded", "folded")),
        Row("VPT", ("0.07", "18.32", "148.44"), VPT_8, why=("", "", "truncated")),
        Row("DyT", ("1.19", "12.21", "108.31"), DYT, why=("no-dispatchers", "activation", "activation")),
        Row("DyT N=4", ("4.80", "12.29", "105.45"), DYT_4,
            why=("no-dispatchers", "activation-experts", "activation"),
            also={"GFLOPs img": (
                ("mixing outputs", Reading("DyT(width=64, rate=0.5, experts=4, mix='outputs')")),
            )}),
        Row("Sparse-Tuning", ("1.10", "11.70", "99.80"), SPARSE_32,
            why=("dense-constant", "evit-offset", "video-sparse"),
            also={"GFLOPs video": (("nominal DyT", DYT),)}),
    ),
)  # fmt: skip

NOAH_II = Table(
    "II, NOAH",
    "VTAB-1K, parameters",
    TWO[:1],
    (Row("NOAH", ("0.36",), Reading(released_subnets()), why="noah-subnets"),),
)

PYRA_LOW = Reading("LoRA(rank=8); PYRA(schedule='low')")
ONE_QUERY = (("one query", Reading("SynQT(queries=1)")),)
RES_TUNING = Table(
    "II, Res-Tuning",
    "VTAB-1K, parameters",
    TWO[:1],
    (
        Row("Res-Tuning", ("0.51",), Reading("ResTuning()"), why="res-tuning",
            also={"Params(M)": (("the branch of length 32", Reading("ResTuning(form='adapter')")),
                                ("the bypass of length 10", Reading("ResTuning(length=10)")))}),
    ),
)  # fmt: skip

TABLE_2 = Table(
    "II",
    "VTAB-1K",
    TWO,
    (
        Row("Full fine-tuning", ("85.84", "17.58"), FULL, why=("with-head", ""),
            otherwise={"Params(M)": Reading("Full()", head="vtab")},
            also={"Params(M)": (("without that head", FULL),)}),
        Row("Adapter", ("0.16", "17.61"), Reading("Adapter(width=8, form='sequential')")),
        Row("BitFit", ("0.10", "17.58"), Reading("BitFit()", folded=True)),
        Row("LoRA", ("0.29", "17.58"), LORA_8, why=("", "folded")),
        Row("VPT", ("0.53", "18.30"), VPT_8, why=("prompts-by-group", "prompts-mixed"),
            otherwise={"Params(M)": Reading(mean_of_groups(VTAB_DEEP, deep=True))},
            also={"GFLOPs": (("7 prompts", Reading("VPT(prompts=7)")),
                             ("57 prompts", Reading("VPT(prompts=57)")))}),
        Row("SSF", ("0.20", "17.58"), Reading("SSF()", folded=True), why=("truncated", "folded")),
        Row("ConvPass", ("0.33", "17.64"), Reading("Convpass(width=8)")),
        Row("AdaptFormer", ("0.16", "17.61"), Reading("Adapter(width=8)")),
        Row("FacT", ("0.04", "17.58"), FACT, why=("fact-ranks", "folded")),
        Row("SynQT", ("2.73", "17.20"), Reading(mean_of_synqt()), why=("synqt-params", "synqt"),
            otherwise={"Params(M)": Reading(mean_of_synqt(), head="vtab")},
            also={"Params(M)": (("without that head", Reading(mean_of_synqt())),),
                  "GFLOPs": ONE_QUERY}),
        Row("PYRA", ("0.30", "16.37"), PYRA_LOW, why=("pyra-norms", "pyra"),
            otherwise={"Params(M)": Reading(PYRA_LOW.methods, without="biases")},
            also={"Params(M)": (("with its norms", PYRA_LOW),),
                  "GFLOPs": (("high schedule", Reading("LoRA(rank=8); PYRA(schedule='high')")),)}),
        *(
            Row(f"DyT r={rate}", printed, Reading(f"DyT(width=8, rate={rate})", without="dispatchers"),
                why=("no-dispatchers", "activation"))
            for rate, printed in (("0.7", ("0.16", "14.92")), ("0.9", ("0.16", "17.07")))
        ),
        *(
            Row(f"Sparse-Tuning r={keep}", printed, Reading(f"DenseAdapter(width=8); EViT(keep={keep})"),
                why=("dense-as-adaptformer", why),
                also={"Params(M)": (("AdaptFormer of width 8", Reading("Adapter(width=8)")),
                                    ("dense adapters of width 4", Reading("DenseAdapter(width=4)")))})
            for keep, printed, why in (("0.7", ("0.16", "11.65"), "evit-no-offset"),
                                       ("0.9", ("0.16", "15.62"), "evit-90"))
        ),
    ),
)  # fmt: skip

TABLE_3 = Table(
    "III",
    "full image data sets",
    TWO,
    (
        Row("Full fine-tuning", ("85.8", "17.58"), FULL),
        Row("Adapter", ("1.19", "17.81"), ADAPTER_64),
        Row("LoRA", ("2.16", "17.58"), LORA_32, why=("lora-two-counts", "folded"),
            otherwise={"Params(M)": None}, units=(("ranks", Reading("LoRA(rank=1)")),),
            also={"Params(M)": (("rank 32", LORA_32), ("rank 64", Reading("LoRA(rank=64)")),
                                ("dense adapters of width 64", Reading("DenseAdapter(width=64)")))}),
        Row("AdaptFormer", ("1.19", "17.81"), ADAPTFORMER_64),
        Row("VPT", ("0.07", "18.32"), VPT_8),
        Row("DyT", ("4.80", "12.21"), DYT, why=("dyt-mixed-rows", "activation"),
            otherwise={"Params(M)": DYT_4}, also={"GFLOPs": (("four experts", DYT_4),)}),
        Row("Sparse-Tuning", ("1.10", "11.70"), SPARSE_32, why=("dense-constant", "evit-offset")),
    ),
)  # fmt: skip


def combination(name: str, printed: tuple[str, str], methods: str, why: tuple[str, str],
                seen: str = "", also: tuple[tuple[str, str], ...] = ()) -> Row:  # fmt: skip
    """A row of Table IV: what its parameters say, and what its operations say where that differs."""
    reading = Reading(methods, folded=True, without="dispatchers" if "DyT" in methods else None)
    others = {"GFLOPs": tuple((words, Reading(text, folded=True)) for words, text in also)}
    return Row(name, printed, reading, why, {"GFLOPs": Reading(seen or methods, folded=True)}, others)


EVIT, DYNAMIC = "EViT(keep=0.5)", "DynamicViT(keep=0.5)"
EARLY = (("at the 3rd, 6th and 9th layer", "EViT(keep=0.5, at=(2, 5, 8))"),
         ("at the 2nd, 5th and 8th", "EViT(keep=0.5, at=(1, 4, 7))"))  # fmt: skip
TABLE_4 = Table(
    "IV",
    "adapters with token reduction, VTAB-1K, keep rate 0.5 by the caption",
    TWO,
    (
        combination("AdaptFormer+DynamicViT", ("3.1", "14.32"), f"Adapter(width=8); {DYNAMIC}",
                    ("predictors-counted", "digits-swapped"),
                    seen="Adapter(width=64); DynamicViT(keep=(0.9, 0.7, 0.5))",
                    also=(("as the caption and the parameters say", f"Adapter(width=8); {DYNAMIC}"),)),
        combination("AdaptFormer+EViT", ("0.16", "11.77"), f"Adapter(width=8); {EVIT}",
                    ("", "not-the-caption"), seen="Adapter(width=64); EViT(keep=0.7)",
                    also=(("as the caption and the parameters say", f"Adapter(width=8); {EVIT}"),)),
        combination("AdaptFormer+ToMe", ("0.16", "13.59"), "Adapter(width=8); ToMe(r=8)",
                    ("", "tome-slip"), seen="Adapter(width=64); ToMe(r=8)",
                    also=(("width 8, as the parameters say", "Adapter(width=8); ToMe(r=8)"),)),
        combination("Adapter+ToMe", ("0.16", "8.52"), "Adapter(width=8, form='sequential'); ToMe(r=16)",
                    ("", "tome-16")),
        combination("LoRA+EViT", ("0.16", "6.99"), f"LoRA(rank=8); {EVIT}",
                    ("lora-as-adaptformer", "evit-too-low"), also=EARLY),
        combination("LoRA+DynamicViT", ("0.16", "9.02"), f"LoRA(rank=8); {DYNAMIC}",
                    ("predictors-left-out", "dynamicvit-half")),
        combination("DyT", ("0.16", "12.54"), "DyT(width=8, rate=0.5)",
                    ("no-dispatchers", "activation")),
        combination("DyT+ToMe", ("0.16", "9.85"), "DyT(width=8, rate=0.5); ToMe(r=8)",
                    ("no-dispatchers", "activation")),
        combination("Sparse-Tuning (DynamicViT)", ("0.16", "9.15"), f"DenseAdapter(width=8); {DYNAMIC}",
                    ("predictors-left-out", "dynamicvit-half")),
        combination("Sparse-Tuning (EViT)", ("0.16", "7.09"), f"DenseAdapter(width=8); {EVIT}",
                    ("dense-as-adaptformer", "evit-too-low")),
        combination("Sparse-Tuning (ToMe)", ("0.16", "8.61"), "DenseAdapter(width=8); ToMe(r=16)",
                    ("dense-as-adaptformer", "tome-16")),
    ),
)  # fmt: skip

SPARSE_TUNING = Paper(
    "sparse-tuning",
    "Sparse-Tuning",
    "Sparse-Tuning: Adapting Vision Transformers with Efficient Fine-tuning and Inference, arXiv 2405.14700",
    (TABLE_1, TABLE_2, NOAH_II, RES_TUNING, TABLE_3, TABLE_4, *ABLATIONS),
)
