"""What papers print about compositions of the same kinds of methods: their gain over full fine-tuning.

Papers average VTAB-1K in two ways that differ by points, so a mean is only compared with the same kind of
mean of full fine-tuning, whose accuracies per task are printed alike in all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from vitrim.network.method import Method
from vitrim.papers.accuracy import GROUPS, MEANS, PUBLISHED, Published
from vitrim.planner.counted import Counted
from vitrim.settings.recipes import RECIPES, find_recipe

PAPERS_MODEL = "vit_base_patch16_224"


@dataclass(frozen=True)
class Printed:
    """A row that a paper prints for ViT-B/16 on VTAB-1K.

    Attributes:
        recipe: the composition, as a recipe's name or a changed form of one.
        methods: what it consists of.
        gain: points above full fine-tuning, by the same kind of mean.
        kind: which mean; gains by different kinds are on different scales.
        source: where it is printed, and the mean as printed.
    """

    recipe: str
    methods: tuple[Method, ...]
    gain: float
    kind: str
    source: str


@cache
def printed_rows() -> tuple[Printed, ...]:
    """All rows with a tuner that vitrim can compose; where papers differ, the last one printed."""
    full = PUBLISHED["sparse-tuning", "full"]
    rows = {}
    for mean in MEANS:
        if mean.recipe in (None, "full", "linear"):
            continue
        reference = full.group_mean if mean.kind == GROUPS else full.mean19
        gain = float(mean.printed) - (reference or 0.0)
        methods = find_recipe(mean.recipe).methods
        rows[mean.recipe] = Printed(mean.recipe, methods, gain, mean.kind, _source(mean))
    return tuple(rows.values())


def share_in_papers(row: Printed) -> float | None:
    """Of the plain operations of ViT-B/16: what the recipe says of itself, or counted; None where the images
    decide.
    """
    if any(getattr(method, "at", None) == "sparse" for method in row.methods):
        return None
    known = find_recipe(row.recipe).expects.get("gmacs_paper")
    if known is None:
        return _papers_backbone().share(row.methods)
    return known / RECIPES["linear"].expects["gmacs_paper"]


@cache
def _papers_backbone() -> Counted:
    return Counted(PAPERS_MODEL, classes=10, image_size=None)


def published_for(methods: tuple[Method, ...]) -> Printed | None:
    """The row with the same kinds of methods; of several the one with the nearest share of tokens kept, then
    that which reduces nearest to the same block."""
    kinds = _kinds(methods)
    rows = [row for row in printed_rows() if _kinds(row.methods) == kinds]

    def distance(row: Printed) -> tuple[float, float]:
        return abs(_keep(row.methods) - _keep(methods)), abs(_block(row.methods) - _block(methods))

    return min(rows, key=distance, default=None)


def _kinds(methods: tuple[Method, ...]) -> tuple[object, ...]:
    """Classes, their forms, and whether weights have few bits, which changes accuracy and size alike."""
    return tuple(
        (type(method), getattr(method, "form", None), getattr(method, "bits", None)) for method in methods
    )


def _keep(methods: tuple[Method, ...]) -> float:
    keeps = (getattr(method, "keep", None) for method in methods)
    return float(next(filter(None, keeps), 1.0))


def _block(methods: tuple[Method, ...]) -> float:
    """The first block that reduces tokens, 0 where that is not a setting."""
    blocks = (getattr(method, "at", None) for method in methods)
    return float(next((at[0] for at in blocks if isinstance(at, tuple) and at), 0))


def _source(mean: Published) -> str:
    return f"{mean.paper} Table {mean.table}, {mean.row} ({mean.recipe}): {mean.printed} %, {mean.kind}"
