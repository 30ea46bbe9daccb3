"""Accuracies on VTAB-1K that the papers print, and the two kinds of mean in use.

One mean is over the 19 tasks, the other over the means of the three groups (natural 7, specialized 4,
structured 8 tasks); the latter is two to five points higher, so figures of the two kinds must not be
compared. Per-task accuracies are those of rows that several papers print alike; of the papers' own rows only
the printed mean is at hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal

from vitrim.papers.reasons import REASONS
from vitrim.papers.verdicts import judge

# Natural, specialized and structured tasks, in the order of vitrim.data.vtab_tasks
PER_TASK = {
    "Full": (
        "68.9 87.7 64.3 97.2 86.9 87.4 38.8",
        "79.7 95.7 84.2 73.9",
        "56.3 58.6 41.7 65.5 57.5 46.7 25.7 29.1",
    ),
    "Linear": (
        "63.4 85.0 63.2 97.0 86.3 36.6 51.0",
        "78.5 87.5 68.6 74.0",
        "34.3 30.6 33.2 55.4 12.5 20.0 9.6 19.2",
    ),
    "BitFit": (
        "72.8 87.0 59.2 97.5 85.3 59.9 51.4",
        "78.7 91.6 72.9 69.8",
        "61.5 55.6 32.4 55.9 66.6 40.0 15.7 25.1",
    ),
    "VPT-Shallow": (
        "77.7 86.9 62.6 97.5 87.3 74.5 51.2",
        "78.2 92.0 75.6 72.9",
        "50.5 58.6 40.5 67.1 68.7 36.1 20.2 34.1",
    ),
    "VPT-Deep": (
        "78.8 90.8 65.8 98.0 88.3 78.1 49.6",
        "81.8 96.1 83.4 68.4",
        "68.5 60.0 46.5 72.8 73.6 47.9 32.9 37.8",
    ),
    "Adapter": (
        "69.2 90.1 68.0 98.8 89.9 82.8 54.3",
        "84.0 94.9 81.9 75.5",
        "80.9 65.3 48.6 78.3 74.8 48.5 29.9 41.6",
    ),
    "LoRA": (
        "67.1 91.4 69.4 98.8 90.4 85.3 54.0",
        "84.9 95.3 84.4 73.6",
        "82.9 69.2 49.8 78.5 75.7 47.1 31.0 44.0",
    ),
    "AdaptFormer": (
        "70.8 91.2 70.5 99.1 90.9 86.6 54.8",
        "83.0 95.8 84.4 76.3",
        "81.9 64.3 49.3 80.3 76.3 45.7 31.7 41.1",
    ),
    "SSF": (
        "69.0 92.6 75.1 99.4 91.8 90.2 52.9",
        "87.4 95.9 87.4 75.5",
        "75.9 62.3 53.3 80.6 77.3 54.9 29.5 37.9",
    ),
    "NOAH": (
        "69.6 92.7 70.2 99.1 90.4 86.1 53.7",
        "84.4 95.4 83.9 75.8",
        "82.8 68.9 49.9 81.7 81.8 48.3 32.8 44.2",
    ),
    "Convpass": (
        "72.3 91.2 72.2 99.2 90.9 91.3 54.9",
        "84.2 96.1 85.3 75.6",
        "82.3 67.9 51.3 80.0 85.9 53.1 36.4 44.4",
    ),
    "FacT-TT": (
        "71.3 89.6 70.7 98.9 91.0 87.8 54.6",
        "85.2 95.5 83.4 75.7",
        "82.0 69.0 49.8 80.0 79.2 48.4 34.2 41.4",
    ),
    "RepAdapter": (
        "72.4 91.6 71.0 99.2 91.4 90.7 55.1",
        "85.3 95.9 84.6 75.9",
        "82.3 68.0 50.4 79.9 80.4 49.2 38.6 41.0",
    ),
    "Bi-LoRA": (
        "72.1 91.7 71.2 99.1 91.4 90.2 55.8",
        "87.0 95.4 85.5 75.5",
        "83.1 64.1 52.2 81.3 86.4 53.5 36.7 44.4",
    ),
    "Bi-AdaptFormer": (
        "74.1 92.4 72.1 99.3 91.6 89.0 56.3",
        "88.2 95.2 86.0 76.2",
        "83.9 63.6 53.0 81.4 86.2 54.8 35.2 41.3",
    ),
    "SynQT": (
        "70.9 89.7 68.8 98.5 89.6 77.8 50.6",
        "82.3 96.7 83.5 75.2",
        "71.8 62.7 48.5 75.4 74.1 49.0 31.7 36.1",
    ),
    "Res-Tuning": (
        "75.2 92.7 71.9 99.3 91.9 86.7 58.5",
        "86.7 95.6 85.0 74.6",
        "80.2 63.6 50.6 80.2 85.4 55.7 31.9 42.0",
    ),
    "GPS": (
        "81.1 94.2 75.8 99.4 91.7 91.6 52.4",
        "87.9 96.2 86.5 76.5",
        "79.9 62.6 55.0 82.4 84.0 55.4 29.7 46.1",
    ),
}
TASKS, GROUPS = "mean of 19 tasks", "mean of 3 groups"


@dataclass(frozen=True)
class Published:
    """A printed mean, and the accuracies it is the mean of where they are at hand.

    Attributes:
        paper, table, row: where it is printed.
        printed: the mean, as printed.
        kind: which mean it is.
        recipe: the recipe that composes the row; None where vitrim lacks the method.
        accuracies: name of the row in PER_TASK.
    """

    paper: str
    table: str
    row: str
    printed: str
    kind: str
    recipe: str | None = None
    accuracies: str | None = None

    @property
    def tasks(self) -> tuple[float, ...] | None:
        """The accuracy of each task, in percent."""
        if self.accuracies is None:
            return None
        return tuple(float(number) for group in PER_TASK[self.accuracies] for number in group.split())

    @property
    def mean19(self) -> float | None:
        """The mean over 19 tasks, computed where they are known, else as printed."""
        if self.tasks is not None:
            return math.fsum(self.tasks) / len(self.tasks)
        return float(self.printed) if self.kind == TASKS else None

    @property
    def group_mean(self) -> float | None:
        """The mean over three groups, computed where the tasks are known, else as printed."""
        if self.accuracies is not None:
            groups = [[float(number) for number in group.split()] for group in PER_TASK[self.accuracies]]
            return math.fsum(math.fsum(group) / len(group) for group in groups) / len(groups)
        return float(self.printed) if self.kind == GROUPS else None

    @property
    def verdict(self) -> str:
        if self.tasks is None:
            return "not derivable"
        computed = self.mean19 if self.kind == TASKS else self.group_mean
        return judge(self.printed, computed)

    @property
    def reason(self) -> str:
        """Why it differs, where that is known."""
        if self.verdict != "differs":
            return ""
        computed = self.mean19 if self.kind == TASKS else self.group_mean
        step = Decimal(1).scaleb(int(Decimal(self.printed).as_tuple().exponent))
        cut = Decimal(repr(computed)).quantize(step, ROUND_DOWN)
        return REASONS["truncated"] if cut == Decimal(self.printed) else ""


def _rows(
    paper: str, table: str, kind: str, *rows: tuple[str, str, str | None, str | None]
) -> list[Published]:
    return [Published(paper, table, row, printed, kind, *rest) for row, printed, *rest in rows]


MEANS: tuple[Published, ...] = (
    *_rows("sparse-tuning", "II", GROUPS,
           ("Full fine-tuning", "68.96", "full", "Full"), ("Linear", "57.64", "linear", "Linear")),
    *_rows("sparse-tuning", "II", TASKS,
           ("Adapter", "71.44", "adapter", "Adapter"), ("BitFit", "62.05", "bitfit", "BitFit"),
           ("LoRA", "72.25", "lora", "LoRA"), ("VPT", "69.43", "vpt-deep", "VPT-Deep"),
           ("SSF", "73.10", "ssf", "SSF"), ("NOAH", "73.25", None, "NOAH"),
           ("ConvPass", "74.45", "convpass", "Convpass"),
           ("AdaptFormer", "72.32", "adaptformer", "AdaptFormer"), ("FacT", "73.04", "fact-tt", "FacT-TT"),
           ("Res-Tuning", "74.09", None, "Res-Tuning"), ("SynQT", "70.15", "synqt", "SynQT"),
           ("PYRA", "72.43", "pyra", None),
           ("DyT r=0.7", "75.33", "dyt", None), ("DyT r=0.9", "75.11", "dyt(rate=0.9)", None),
           ("Sparse-Tuning r=0.7", "75.64", "sparse-tuning", None),
           ("Sparse-Tuning r=0.9", "75.55", "sparse-tuning(keep=0.9)", None)),
    *_rows("tr-pts", "2", TASKS,
           ("Linear", "53.00", "linear", None), ("Adapter", "55.82", None, None),
           ("LoRA", "72.63", "lora(rank=16)", None), ("VPT-Shallow", "64.85", "vpt-shallow", "VPT-Shallow"),
           ("GPS", "75.18", "gps", "GPS"), ("TR-PTS", "75.92", "tr-pts", None)),
    *_rows("fpet", "2", GROUPS,
           ("Full", "68.9", "full", "Full"), ("Linear", "57.6", "linear", None),
           ("NOAH", "75.5", None, "NOAH"), ("SSF", "75.7", "ssf", "SSF"),
           ("FPET RepAdapter", "76.1", "fpet-repadapter", None), ("FPET LoRA", "75.6", "fpet-lora", None)),
    *_rows("fpet", "A3", GROUPS,
           ("w/o merging", "76.22", "adaptformer", None), ("layer 6 BDM", "76.22", "fpet-adaptformer", None),
           ("layer 4 BDM", "75.65", "fpet-adaptformer(at=(4,))", None),
           ("layer 2 BDM", "74.29", "fpet-adaptformer(at=(2,))", None),
           ("layer 1 BDM", "72.21", "fpet-adaptformer(at=(1,))", None),
           ("layer 0 BDM", "69.09", "fpet-adaptformer(at=(0,))", None)),
    *_rows("fpet", "A4", GROUPS,
           ("w/o merging", "77.01", "bi-adaptformer", None),
           ("layer 6 BDM", "76.96", "fpet-bi-adaptformer", None),
           ("layer 4 BDM", "76.34", "fpet-bi-adaptformer(at=(4,))", None),
           ("layer 2 BDM", "75.18", "fpet-bi-adaptformer(at=(2,))", None),
           ("layer 1 BDM", "73.00", "fpet-bi-adaptformer(at=(1,))", None),
           ("layer 0 BDM", "69.75", "fpet-bi-adaptformer(at=(0,))", None)),
)  # fmt: skip

PUBLISHED: dict[tuple[str, str], Published] = {
    (mean.paper, mean.recipe): mean for mean in MEANS if mean.recipe is not None
}
