"""Charts against numbers worked out by hand, and their files."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy
import pytest
from matplotlib.figure import Figure

from vitrim.report.chart import DARK, LIGHT, Chart, safe, spread_evenly
from vitrim.report.charts.confusion import confusion_map, most_confused
from vitrim.report.charts.learning import learning
from vitrim.report.charts.published import ghosts
from vitrim.report.charts.reliability import binned, calibration_error, reliability
from vitrim.report.charts.spending import spending
from vitrim.report.charts.trade_off import trade_offs


def pixels(chart: Chart, theme: Any = LIGHT) -> numpy.ndarray:
    import io

    from PIL import Image

    return numpy.asarray(Image.open(io.BytesIO(chart.png(theme, dpi=50))).convert("RGB"))


def test_bins_and_calibration_by_hand() -> None:
    sure, right = [0.95, 0.85, 0.65, 0.55, 0.1], [True, True, False, True, False]
    assert binned(sure, right, 2) == [(pytest.approx(0.1), 0.0, 1), (pytest.approx(0.75), 0.75, 4)]
    assert binned([0.5], [True], 2)[0][2] == 1 and binned([0.5, 0.6], [True, True], 2)[0][2] == 1  # an edge
    assert calibration_error(sure, right, 2) == pytest.approx(0.2 * 0.1)
    assert calibration_error([1.0, 1.0], [True, False]) == pytest.approx(0.5)
    chart = reliability(sure, right)
    assert "calibration error" in chart.words and sum(row[2] for row in chart.rows) == 5  # type: ignore[misc]


def test_confusions_by_hand() -> None:
    table = [[5, 2, 0], [0, 4, 0], [3, 1, 1]]
    assert most_confused("abc", table, 2) == [("c", "a", 3), ("a", "b", 2)]
    small = confusion_map("abc", table)
    assert small.columns == ("true class", "a", "b", "c") and small.rows[2] == ("c", 3, 1, 1)
    names = [f"class {index}" for index in range(100)]
    large = confusion_map(names, numpy.eye(100, dtype=int).tolist())
    assert large.columns == ("true class", "class given", "pictures") and large.rows == ()
    shown = pixels(large)
    assert shown.shape == (300, 300, 3)
    assert len({tuple(colour) for colour in shown.reshape(-1, 3)}) > 2  # the diagonal is there


def test_epochs_are_whole_numbers() -> None:
    history = [
        {"epoch": 1, "train_loss": 2.0, "val_top1": 0.5},
        {"epoch": 2, "train_loss": 1.0, "val_top1": 0.75},
    ]
    loss, validation = learning({"run": history})
    assert loss.rows == (("run", 1, 2.0), ("run", 2, 1.0)) and validation.rows[-1] == ("run", 2, 75.0)
    figure: Figure = loss.figure()
    assert all(tick == int(tick) for tick in figure.axes[0].get_xticks())


def test_spending_by_hand() -> None:
    ours, plain = (
        {"tokens": [5, 3], "blocks": [4_000_000, 2_000_000]},
        {"tokens": [5, 5], "blocks": [4_000_000] * 2},
    )
    tokens, operations = spending(ours, plain)
    assert tokens.rows == ((0, 5, 5), (1, 3, 5)) and "80%" in tokens.words
    assert operations.rows == ((0, 4.0, 4.0), (1, 2.0, 4.0)) and "75%" in operations.words


def record(
    top1: float, gmacs: float, spec: str = "vtab:eurosat", model: str = "vit_base_patch16_224"
) -> dict[str, Any]:
    return {
        "results": {"top1": top1},
        "costs": {"gmacs": gmacs, "trained_parameters": 1000},
        "model_bytes": 5_000_000,
        "speed": [],
        "data": {"spec": spec},
        "settings": {"model": model},
    }


def test_runs_and_what_papers_report_for_the_same_task() -> None:
    records = [record(0.9, 11.6), record(0.8, 17.5)]
    printed = ghosts(records)
    reported = {ghost.name: ghost.accuracy for ghost in printed["parameters"]}
    assert reported["LoRA"] == 95.3  # FPET's and Sparse-Tuning's tables, EuroSAT
    by_cost = {chart.name: chart for chart in trade_offs(["ours", "other"], records, printed)}
    assert set(by_cost) == {
        "accuracy-by-gmacs",
        "accuracy-by-parameters",
        "accuracy-by-file",
    }  # no time measured
    rows = by_cost["accuracy-by-parameters"].rows
    assert rows[0] == ("ours", 1000, 90.0, "measured") and {row[3] for row in rows[2:]} == {"reported"}
    timed = [
        {**each, "step_memory_mib": mib, "speed": [{"name": "as trained", "ratio": ratio}]}
        for each, mib, ratio in zip(records, (120.0, 480.5), (0.7, 1.0), strict=True)
    ]
    by_cost = {chart.name: chart for chart in trade_offs(["ours", "other"], timed)}
    assert by_cost["accuracy-by-memory"].rows[1] == ("other", 480.5, 80.0, "measured")
    assert by_cost["accuracy-by-time"].rows[0] == ("ours", 0.7, 90.0, "measured")
    assert ghosts([record(0.9, 1.0, model="vit_tiny_patch16_224")]) == {}
    assert ghosts([record(0.9, 1.0, spec="digits")]) == {}
    assert trade_offs(["alone"], records[:1]) == []


def test_costs_that_nearly_agree_are_not_told_apart_by_the_axis() -> None:
    def run(size: int) -> dict[str, Any]:
        return {
            "costs": {"gmacs": 1.0, "trained_parameters": 9},
            "model_bytes": size,
            "results": {"top1": 0.5},
        }

    drawn = next(
        chart
        for chart in trade_offs(["one", "two"], [run(655_020), run(655_100)])
        if chart.name.endswith("file")
    )
    low, high = drawn.figure().axes[0].get_xlim()
    assert high > 50 * low


def test_a_chart_is_written_with_its_numbers(tmp_path: Path) -> None:
    chart = reliability([0.9, 0.2], [True, False])
    picture = chart.save(tmp_path / "new", dpi=50)
    assert picture.read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "new" / "reliability.csv").open() as stream:
        assert next(csv.reader(stream)) == list(chart.columns)
    assert json.loads((tmp_path / "new" / "reliability.json").read_text())["rows"] == [
        list(r) for r in chart.rows
    ]


def test_charts_are_repeatable_and_have_a_dark_form() -> None:
    chart = reliability([0.9, 0.2], [True, False])
    assert chart.png(dpi=50) == chart.png(dpi=50)
    light, dark = pixels(chart, LIGHT), pixels(chart, DARK)
    assert light.shape == dark.shape and light.mean() > 200 > 100 > dark.mean()


def test_pages_get_the_very_pictures_of_both_themes() -> None:
    history = [{"epoch": epoch, "train_loss": 2.0 / epoch, "val_top1": 0.5} for epoch in (1, 2, 3)]
    spent = {"tokens": [5, 3], "blocks": [4_000_000, 2_000_000]}
    charts = [
        reliability([0.9, 0.2], [True, False]),
        confusion_map("abc", [[5, 2, 0], [0, 4, 0], [3, 1, 1]]),
        *learning({"a run with a long name": history}),
        *spending(spent, spent),
        *trade_offs(["ours", "other"], [record(0.9, 11.6), record(0.8, 17.5)])[:1],
    ]
    for chart in charts:
        assert chart.light_and_dark(50) == (chart.png(LIGHT, 50), chart.png(DARK, 50)), chart.name


def test_names_cannot_be_formulas() -> None:
    assert safe("$\\frac{1}{0}$", 40) == "\\$\\frac{1}{0}\\$"
    assert safe("a" * 50, 10) == "a" * 9 + "…"
    named = {"$x^2$": [{"epoch": 1, "train_loss": 1.0}], "\x00": [{"epoch": 1, "train_loss": 2.0}]}
    assert all(chart.png(dpi=40) for chart in learning(named))
    assert list(spread_evenly(3, 8)) == [0, 1, 2] and list(spread_evenly(12, 4)) == [2, 5, 8, 11]
