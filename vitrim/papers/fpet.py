"""FPET, arXiv 2503.20282. Adapters are bias-free as in its code; layers count from 0 as in its tables."""

from vitrim.papers.prompts import (
    VTAB_DEEP,
    VTAB_SHALLOW,
    mean_of_groups,
    mean_of_synqt,
    released_subnets,
)
from vitrim.papers.reading import DEIT_B, DEIT_S, VIT_L, VIT_S, Reading
from vitrim.papers.tables import Paper, Row, Table

GFLOPS, PARAMS = ("FLOPs(G)",), ("#param(M)",)
HALVE = "Bipartite(at=(6,))"
LORA, BI_LORA = "LoRA(rank=8)", "LoRA(rank=32, bits=1)"
ADAPTFORMER, BI_ADAPTFORMER = "Adapter(width=8, bias=False)", "Adapter(width=32, bias=False, bits=1)"
REPADAPTER = "RepAdapter(width=8)"


def folded(methods: str) -> Reading:
    return Reading(methods, folded=True)


def also(*others: tuple[str, Reading]) -> dict[str, tuple[tuple[str, Reading], ...]]:
    """Other readings of the operations."""
    return {"FLOPs(G)": others}


TABLE_1 = Table(
    "1",
    "VTAB-1K, operations",
    GFLOPS,
    (
        Row("Full", ("17.6",), Reading("Full()")),
        Row("Linear", ("17.6",), Reading()),
        Row("VPT-Deep", ("18.5",), Reading("VPT(prompts=10)"), why="prompts-mixed-fpet",
            also=also(("57 prompts", Reading("VPT(prompts=57)")))),
        Row("BitFit", ("17.6",), folded("BitFit()")),
        Row("SSF", ("17.6",), folded("SSF()"), why="folded"),
        Row("FacT-TT", ("17.8",), Reading("FacT(rank=8)"), why="fact-unfolded",
            also=also(("rank 16", Reading("FacT(rank=16)")), ("folded", folded("FacT(rank=8)")))),
        Row("RepAdapter", ("17.6",), folded(REPADAPTER), why="folded"),
        Row("LoRA", ("17.6",), Reading(LORA), why="unfolded", also=also(("folded", folded(LORA)))),
        Row("AdaptFormer", ("17.6",), Reading(ADAPTFORMER)),
        Row("Bi-LoRA", ("17.6",), folded(BI_LORA), why="folded", also=also(("as coded", Reading(BI_LORA)))),
        Row("Bi-AdaptFormer", ("17.7",), Reading(BI_ADAPTFORMER)),
        Row("SynQT", ("16.84",), Reading(mean_of_synqt()), why="synqt",
            also=also(("one query", Reading("SynQT(queries=1)")))),
        Row("FPET RepAdapter", ("13.3",), folded(f"{REPADAPTER}; {HALVE}"), why="halved-folded"),
        Row("FPET LoRA", ("13.3",), folded(f"{LORA}; {HALVE}"), why="halved-folded",
            also=also(("as coded, not folded", Reading(f"{LORA}; {HALVE}")))),
        Row("FPET AdaptFormer", ("13.5",), Reading(f"{ADAPTFORMER}; {HALVE}")),
        Row("FPET Bi-LoRA", ("13.3",), folded(f"{BI_LORA}; {HALVE}"), why="halved-folded",
            also=also(("as coded, not folded", Reading(f"{BI_LORA}; {HALVE}")))),
        Row("FPET Bi-AdaptFormer", ("13.5",), Reading(f"{BI_ADAPTFORMER}; {HALVE}")),
    ),
)  # fmt: skip


def adaptformer(name: str, printed: str, methods: str, why: str) -> Row:
    """AdaptFormer rows of Table 2: as coded, and with biases."""
    literature = methods.replace(", bias=False", "")
    return Row(name, (printed,), Reading(methods), why,
               also={"#param(M)": (("with biases", Reading(literature)),)})  # fmt: skip


TABLE_2 = Table(
    "2",
    "VTAB-1K, parameters",
    PARAMS,
    (
        Row("Full", ("85.8",), Reading("Full()")),
        Row("VPT-Shallow", ("0.06",), Reading(mean_of_groups(VTAB_SHALLOW, deep=False)),
            why="prompts-by-group"),
        Row("VPT-Deep", ("0.53",), Reading(mean_of_groups(VTAB_DEEP, deep=True)), why="prompts-by-group"),
        Row("BitFit", ("0.10",), Reading("BitFit()")),
        Row("SSF", ("0.24",), Reading("SSF()", head="vtab"), why="ssf-with-head",
            also={"#param(M)": (("without that head", Reading("SSF()")),)}),
        Row("RepAdapter", ("0.22",), Reading(REPADAPTER, without="biases"), why="no-biases",
            also={"#param(M)": (("with biases", Reading(REPADAPTER)),)}),
        Row("NOAH", ("0.36",), Reading(released_subnets()), why="noah-subnets"),
        Row("Pruned RepAdapter", ("0.18",), Reading(f"FirstBlocks(10); {REPADAPTER}", without="biases"),
            why="pruned-mean", also={"#param(M)": (("9 blocks",
                Reading(f"FirstBlocks(9); {REPADAPTER}", without="biases")),)}),
        Row("LoRA", ("0.29",), Reading(LORA)),
        adaptformer("AdaptFormer", "0.16", ADAPTFORMER, "bias-free"),
        Row("Bi-LoRA", ("1.17",), Reading(BI_LORA), why="truncated"),
        adaptformer("Bi-AdaptFormer", "0.64", BI_ADAPTFORMER, "bi-adaptformer"),
        Row("SynQT", ("2.72",), Reading(mean_of_synqt()), why="synqt-count",
            also={"#param(M)": (("with the mean VTAB classifier", Reading(mean_of_synqt(), head="vtab")),)}),
        Row("FPET LoRA", ("0.30",), Reading(f"{LORA}; {HALVE}")),
        adaptformer("FPET AdaptFormer", "0.17", f"{ADAPTFORMER}; {HALVE}", "bias-free-below"),
        Row("FPET RepAdapter", ("0.23",), Reading(f"{REPADAPTER}; {HALVE}", without="biases"),
            why="no-biases"),
        Row("FPET Bi-LoRA", ("1.18",), Reading(f"{BI_LORA}; {HALVE}")),
        adaptformer("FPET Bi-AdaptFormer", "0.64", f"{BI_ADAPTFORMER}; {HALVE}", "bi-adaptformer"),
    ),
)  # fmt: skip

TABLE_3 = Table(
    "3",
    "token reductions compared, differences only",
    ("-",),
    (Row("(all rows)", ("-",), None, why="no-cell"),),
)

LARGE_HALVE = "Bipartite(at=(12,))"  # the middle of 24 blocks
TABLE_5 = Table(
    "5",
    "other backbones",
    GFLOPS,
    (
        Row("ViT-L LoRA", ("61.8",), Reading(LORA, VIT_L), why="unfolded",
            also=also(("folded", Reading(LORA, VIT_L, folded=True)))),
        Row("ViT-L FPET-LoRA", ("46.7",), Reading(f"{LORA}; {LARGE_HALVE}", VIT_L), why="unfolded",
            also=also(("folded", Reading(f"{LORA}; {LARGE_HALVE}", VIT_L, folded=True)))),
        Row("DeiT-S AdaptFormer", ("4.8",), Reading(ADAPTFORMER, DEIT_S), why="deit-s"),
        Row("DeiT-S FPET-AdaptFormer", ("3.7",), Reading(f"{ADAPTFORMER}; {HALVE}", DEIT_S), why="deit-s"),
    ),
)  # fmt: skip
TABLE_A1 = Table(
    "A1",
    "other backbones, more methods",
    GFLOPS,
    (
        Row("ViT-S Bi-LoRA", ("4.7",), Reading(BI_LORA, VIT_S), why="unfolded"),
        Row("ViT-S FPET-Bi-LoRA", ("3.6",), Reading(f"{BI_LORA}; {HALVE}", VIT_S), why="unfolded",
            also=also(("folded", Reading(f"{BI_LORA}; {HALVE}", VIT_S, folded=True)))),
        *TABLE_5.rows[:2],
        Row("DeiT-S LoRA", ("4.8",), Reading(LORA, DEIT_S), why="deit-s"),
        Row("DeiT-S FPET-LoRA", ("3.6",), Reading(f"{LORA}; {HALVE}", DEIT_S), why="unfolded"),
        Row("DeiT-S Bi-LoRA", ("4.8",), Reading(BI_LORA, DEIT_S), why="deit-s"),
        Row("DeiT-S FPET-Bi-LoRA", ("3.6",), Reading(f"{BI_LORA}; {HALVE}", DEIT_S), why="unfolded"),
        Row("DeiT-B LoRA", ("17.6",), Reading(LORA, DEIT_B), why="deit-b",
            also=also(("folded", Reading(LORA, DEIT_B, folded=True)),
                      ("folded, 197 tokens", Reading(LORA, folded=True)))),
        Row("DeiT-B FPET-LoRA", ("13.3",), Reading(f"{LORA}; {HALVE}", DEIT_B, folded=True), why="deit-b",
            also=also(("not folded", Reading(f"{LORA}; {HALVE}", DEIT_B)))),
        Row("DeiT-B AdaptFormer", ("17.7",), Reading(ADAPTFORMER, DEIT_B)),
        Row("DeiT-B FPET-AdaptFormer", ("13.5",), Reading(f"{ADAPTFORMER}; {HALVE}", DEIT_B),
            why="percentage"),
    ),
)  # fmt: skip
TABLE_A2 = Table(
    "A2",
    "a narrower adapter instead of fewer tokens",
    ("FLOPs(G)",),
    (
        Row("AdaptFormer d=8", ("17.61",), Reading(ADAPTFORMER)),
        Row("AdaptFormer d=1", ("17.59",), Reading("Adapter(width=1, bias=False)")),
        Row("FPET-AdaptFormer", ("13.45",), Reading(f"{ADAPTFORMER}; {HALVE}")),
    ),
)


def by_layer(name: str, about: str, adapter: str, plain: str) -> Table:
    """One halving at one of five layers, by four means."""
    means = {
        "Max Pool": "Pool(at=({},), kind='max')",
        "Avg Pool": "Pool(at=({},), kind='avg')",
        "BSM": "Bipartite(at=({},), learned=False)",
        "BDM": "Bipartite(at=({},))",
    }
    printed = {6: "13.5", 4: "12.0", 2: "10.5", 1: "9.8", 0: "9.0"}
    rows = (
        Row(
            f"layer {layer} {mean}",
            (gflops,),
            Reading(f"{adapter}; {text.format(layer)}"),
            why="one-for-four",
        )
        for layer, gflops in printed.items()
        for mean, text in means.items()
    )
    return Table(name, about, GFLOPS, (Row("w/o merging", (plain,), Reading(adapter)), *rows))


TABLE_A3 = by_layer("A3", "where to halve, AdaptFormer", ADAPTFORMER, "17.6")
TABLE_A4 = by_layer("A4", "where to halve, Bi-AdaptFormer", BI_ADAPTFORMER, "17.7")

FPET = Paper(
    "fpet",
    "FPET",
    "Faster Parameter-Efficient Tuning with Token Redundancy Reduction, arXiv 2503.20282",
    (TABLE_1, TABLE_2, TABLE_3, TABLE_5, TABLE_A1, TABLE_A2, TABLE_A3, TABLE_A4),
)
