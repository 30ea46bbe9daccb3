"""TR-PTS, arXiv 2507.22872: trained parameters in percent of the backbone, mean classifier included."""

from collections.abc import Mapping
from types import MappingProxyType

from vitrim.papers.prompts import FGVC_DEEP, FGVC_SHALLOW, VTAB_DEEP, mean_of_tasks
from vitrim.papers.reading import Reading
from vitrim.papers.tables import Paper, Row, Table

PERCENT = ("Params(%)",)
FULL = Row("Full", ("100.00",), Reading("Full()"), why="full-is-all")


def gps(connections: int) -> str:
    return (
        f"FisherDelta(top=None, connections={connections}, score='gradient', loss='contrastive', "
        "biases=True, patch=True)"
    )


# What one more connection of every neuron trains
NORMED = {"with that LayerNorm": "Adapter(width=8, norm='in')"}
BOUNDS = {
    "the recipe's bounds, one connection": "FisherDelta(top=None, connections=1, score='gradient')",
    "and four": "FisherDelta(top=None, connections=4, score='gradient')",
}
CHOSEN = {
    "connections of every neuron where weights alone train, and one less where its bias does too": (
        "FisherDelta(top=None, connections=1, score='gradient')"
    )
}


def row(name: str, printed: str, methods: str | tuple[tuple[str, int], ...] | None, head: str,
        why: str = "", units: Mapping[str, str] = MappingProxyType({})) -> Row:  # fmt: skip
    reading = None if methods is None else Reading(methods, head=head)
    counts = tuple((words, Reading(text, head=head)) for words, text in units.items())
    others = BOUNDS if units is CHOSEN else NORMED if why == "adaptformer-norm" else {}
    also = {"Params(%)": tuple((words, Reading(text, head=head)) for words, text in others.items())}
    return Row(name, (printed,), reading, why, units=counts, also=also)


def rows(head: str, *given: tuple) -> tuple[Row, ...]:
    return (FULL, *(row(name, printed, methods, head, *rest) for name, printed, methods, *rest in given))


TABLE_2 = Table(
    "2",
    "VTAB-1K",
    PERCENT,
    rows(
        "vtab",
        ("Linear", "0.05", "", "rounded-twice"),
        ("BitFit", "0.16", "BitFit()"),
        ("Adapter", "0.31", "Adapter(width=12, form='sequential')", "adapter-twelve"),
        ("AdaptFormer", "0.24", "Adapter(width=8)", "adaptformer-norm"),
        ("LoRA", "0.90", "LoRA(rank=16)", "lora-fgvc"),
        ("VPT-Shallow", "0.13", "VPT(prompts=100, deep=False)", "prompts-100"),
        ("VPT-Deep", "0.70", mean_of_tasks(VTAB_DEEP, deep=True), "prompts-by-task"),
        ("SSF", "0.28", "SSF()"),
        # One connection, and two on Camelyon, as the released scripts have it
        ("GPS", "0.25", ((gps(1), 18), (gps(2), 1)), "gps-scripts"),
        ("TR-PTS", "0.34", None, "tr-pts-unstated", CHOSEN),
    ),
)
TABLE_3 = Table(
    "3",
    "FGVC",
    PERCENT,
    rows(
        "fgvc",
        ("Linear", "0.21", ""),
        ("BitFit", "0.33", "BitFit()"),
        ("Adapter", "0.48", "Adapter(width=12, form='sequential')", "adapter-twelve"),
        ("AdaptFormer", "0.75", "Adapter(width=24)", "no-natural-width"),
        ("LoRA", "0.90", "LoRA(rank=16)"),
        ("VPT-Shallow", "0.29", mean_of_tasks(FGVC_SHALLOW, deep=False), "prompts-by-task"),
        ("VPT-Deep", "0.99", mean_of_tasks(FGVC_DEEP, deep=True), "prompts-by-task"),
        ("SSF", "0.45", "SSF()"),
        # CUB, NABirds, Flowers, Cars and Dogs in the released scripts
        ("GPS", "0.77", ((gps(2), 1), (gps(20), 1), (gps(1), 2), (gps(15), 1)), "gps-fgvc"),
        ("TR-PTS", "0.60", None, "tr-pts-unstated", CHOSEN),
    ),
)

TR_PTS = Paper(
    "tr-pts",
    "TR-PTS",
    "TR-PTS: Task-Relevant Parameter and Token Selection for Efficient Tuning, arXiv 2507.22872",
    (TABLE_2, TABLE_3),
)
