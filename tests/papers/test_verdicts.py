"""The ledger: what is printed, how it is judged, and that docs/reproduction.md is what the command writes."""

import json
from collections import Counter
from pathlib import Path

import pytest

from vitrim.papers.accuracy import GROUPS, MEANS, PUBLISHED, TASKS
from vitrim.papers.page import preface
from vitrim.papers.reading import DEIT_B, VIT_L, Reading
from vitrim.papers.reasons import ONLY_OF_DIFFERENCES, REASONS
from vitrim.papers.tables import COLUMNS
from vitrim.papers.verdicts import PAPERS, VERDICTS, Cell, judge, reproduce
from vitrim.papers.writing import as_csv, as_json, as_markdown, by_table
from vitrim.settings.recipes import find_recipe

PAGE = Path(__file__).parents[2] / "docs" / "reproduction.md"
# Small tables with every kind of cell: bottlenecks, prompts, means over tasks, heads, merging, extra paths
QUICK = [("sparse-tuning", "X"), ("sparse-tuning", "XI"), ("fpet", "2"), ("fpet", "A2"), ("tr-pts", "2")]


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    return [cell for paper, table in QUICK for cell in reproduce(paper, table)]


def rows() -> list:
    return [(paper, table, row) for paper in PAPERS.values() for table in paper.tables for row in table.rows]


def test_every_printed_cell_is_there_once() -> None:
    names = [
        (paper.key, table.name, row.name, column) for paper, table, row in rows() for column in table.columns
    ]
    assert len(names) == len(set(names)) == 288
    assert Counter(name[0] for name in names) == {"sparse-tuning": 169, "fpet": 97, "tr-pts": 22}
    for _, table, row in rows():
        assert len(row.printed) == len(table.columns)
        assert isinstance(row.why, str) or len(row.why) == len(table.columns)
        assert set(row.also) | set(row.otherwise) <= set(table.columns)


def test_reasons_exist_and_are_used() -> None:
    used = {why for *_, row in rows() for why in ([row.why] if isinstance(row.why, str) else row.why)}
    assert used - {""} == set(REASONS)
    assert set(REASONS) >= ONLY_OF_DIFFERENCES


def test_nothing_is_left_unexplained(cells: list[Cell]) -> None:
    for cell in cells:
        assert cell.verdict in VERDICTS
        assert cell.reason or cell.verdict == "agrees", cell
        assert (cell.computed is None) == (cell.verdict == "not derivable")


def test_five_counts_in_three_papers_follow_from_one_list_of_prompts() -> None:
    printed = {
        ("sparse-tuning", "II", "VPT", "Params(M)"),
        ("fpet", "2", "VPT-Shallow", "#param(M)"),
        ("fpet", "2", "VPT-Deep", "#param(M)"),
        ("tr-pts", "3", "VPT-Shallow", "Params(%)"),
        ("tr-pts", "3", "VPT-Deep", "Params(%)"),
    }
    found = [cell for paper, table, *_ in printed for cell in reproduce(paper, table)]
    verdicts = {(cell.paper.lower(), cell.table, cell.row, cell.column): cell.verdict for cell in found}
    assert {name: verdicts.get(name) for name in printed} == dict.fromkeys(printed, "agrees")


def test_the_page_is_what_the_command_writes(cells: list[Cell]) -> None:
    """Its quick tables word for word; the counts of all tables add up to what its other tables say."""
    page = PAGE.read_text(encoding="utf-8")
    assert page.startswith(preface())
    for _, found in by_table(cells):
        assert as_markdown(found) in page
    for paper, table, row in rows():
        assert f"### {paper.name}, Table {table.name}: {table.about}\n" in page
        assert f"| {row.name} | {table.columns[0]} | {row.printed[0]} |" in page
    for verdict, total in zip(VERDICTS, totals(page), strict=True):
        assert page.count(f"| {verdict} |  |") + page.count(f"| {verdict} | (") == total


def totals(page: str) -> list[int]:
    """How many cells agree, differ and cannot be derived, from the page's line about all of them."""
    line = next(line for line in page.splitlines() if line.startswith("| all |"))
    *numbers, cells = [int(part) for part in line.split("|") if part.strip().isdigit()]
    assert sum(numbers) == cells == 288
    return numbers


@pytest.mark.parametrize(
    ("printed", "computed", "verdict"),
    [
        ("11.65", 11.654386944, "agrees"),
        ("11.65", 11.655, "agrees"),
        ("11.65", 11.6551, "differs"),
        ("0", 0.0, "agrees"),
        ("0", 0.1, "differs"),
        ("13.5", 13.45, "agrees"),
        ("13.5", 13.4460, "differs"),
        ("100.00", 100.0, "agrees"),
        ("-", None, "not derivable"),
    ],
)
def test_agreement_is_rounding_to_the_printed_digits(
    printed: str, computed: float | None, verdict: str
) -> None:
    assert judge(printed, computed) == verdict


ANCHORS = [
    ("video", Reading("Full()"), 142.530918144),
    ("video", Reading("Adapter(width=64)"), 144.390043392),
    ("video", Reading("VPT(prompts=8)"), 148.446852864),
    ("video", Reading("DenseAdapter(width=32); EViT(keep=0.7)"), 94.705837824),
    ("video", Reading("Bipartite(at=(6,)); Adapter(width=8, bias=False)"), 108.58),
    ("gmacs", Reading("LoRA(rank=8); EViT(keep=0.5)", folded=True), 8.828251392),
    ("gmacs", Reading("DyT(width=64, rate=0.5, experts=4)"), 12.2674),
    ("gmacs", Reading("Pool(at=(6,)); Adapter(width=8)"), 13.4459),
    ("gmacs", Reading("Bipartite(at=(0,)); Adapter(width=8)"), 9.0139),
    ("gmacs", Reading("DyT(width=8, rate=0.5)"), 12.057441),
    ("gmacs", Reading("DyT(width=8, rate=0.5); ToMe(r=8)"), 9.0631),
    ("gmacs", Reading("LoRA(rank=8)", VIT_L), 61.758039),
    ("gmacs", Reading("LoRA(rank=8); Bipartite(at=(12,))", VIT_L), 46.682090),
    ("gmacs", Reading("LoRA(rank=8)", DEIT_B), 17.732676),
    ("gmacs", Reading("DenseAdapter(width=32); EViT(keep=0.7, at=(6, 12, 18))", VIT_L), 40.486571),
    ("params", Reading("DenseAdapter(width=32, restart=12)", VIT_L), 2.910208),
    ("params", Reading("RepAdapter()", without="biases"), 0.221184),
    ("params", Reading("DyT(width=64, experts=4)", without="dispatchers"), 4.79544),
    ("params", Reading((("FacT(rank=4)", 1), ("FacT(rank=8)", 9), ("FacT(rank=16)", 9))), 0.0397339),
    ("params", Reading("Full()", head="vtab"), 85.836701),
    ("percent", Reading(head="fgvc"), 0.210),
    ("percent", Reading("BitFit()", head="fgvc"), 0.330),
]


@pytest.mark.parametrize(("quantity", "reading", "value"), ANCHORS)
def test_anchors(quantity: str, reading: Reading, value: float) -> None:
    digits = len(str(value).split(".")[1])
    assert reading.compute(quantity) == pytest.approx(value, abs=0.51 * 10**-digits)


def test_columns_are_known() -> None:
    assert {column for _, table, _ in rows() for column in table.columns} == {*COLUMNS, "-"}


def test_json_and_csv(cells: list[Cell]) -> None:
    stored = json.loads(as_json(cells))
    assert set(stored) == {"cells"}
    names = ["paper", "table", "row", "column", "printed", "computed", "verdict", "reason"]
    assert all(list(cell) == names for cell in stored["cells"])
    assert stored["cells"][0] == {
        **{"paper": "Sparse-Tuning", "table": "X", "row": "d=8", "column": "Params(M)", "printed": "0.29"},
        **{"computed": 0.279808, "verdict": "differs", "reason": REASONS["dense-constant"]},
    }
    lines = as_csv(cells, MEANS).splitlines()
    assert len(lines) == 1 + len(cells) + len(MEANS)


def test_means_of_accuracies() -> None:
    """As found for the papers: two kinds of mean, and what was cut off instead of rounded."""
    full, sparse = PUBLISHED["sparse-tuning", "full"], PUBLISHED["sparse-tuning", "sparse-tuning"]
    assert (full.kind, round(full.mean19, 2), round(full.group_mean, 2)) == (GROUPS, 65.57, 68.97)
    assert (sparse.kind, sparse.mean19, sparse.group_mean) == (TASKS, 75.64, None)
    assert {(mean.paper, mean.row) for mean in MEANS if mean.verdict == "differs"} == {
        ("sparse-tuning", "Full fine-tuning"),
        ("fpet", "Full"),
    }
    for mean in MEANS:
        assert mean.tasks is None or len(mean.tasks) == 19
        assert mean.reason == (REASONS["truncated"] if mean.verdict == "differs" else "")
        assert mean.recipe is None or find_recipe(mean.recipe)
