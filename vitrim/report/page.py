"""The page itself: complete in one file, with pictures, numbers, style and a small script inside. No request
leaves it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from vitrim.data import open_data
from vitrim.methods.notation import parse_method
from vitrim.methods.tuners import FisherDelta
from vitrim.report.by_class import by_class
from vitrim.report.charts.kept_tokens import kept_tokens
from vitrim.report.charts.selection import selection
from vitrim.report.comparing import thing
from vitrim.report.drawn import Drawn, draw
from vitrim.report.first_screen import first_screen
from vitrim.report.html import charts, heading, paragraph, table
from vitrim.report.repeating import what_was_run
from vitrim.report.samples import Samples, attention_section, take_samples, tokens_section
from vitrim.report.shown_run import ShownRun, read_runs
from vitrim.report.summary import HEADINGS, folded_gmacs, in_words, name_of, rows, speed_of
from vitrim.report.timing import measured, timed
from vitrim.runs.answer_files import check_ending
from vitrim.runs.opening import open_model
from vitrim.video.settings import as_video
from vitrim.writing import write_whole

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
MEANINGS = (  # of {one} image or clip
    "Trained: parameters, and their share of the backbone. File: what this task needs on disk. GMACs: "
    "billions of multiply-adds for one {one}, as executed, once folded what folds. Time: for one {one}, "
    "where the plain backbone takes 1; median of rounds in turns. Full fine-tuning was not run: its costs "
    "are known. Intervals and tests say what the choice of test {one}s can do, not what another seed would."
)

MEASURE = (
    "vitrim report --measure also measures the time and the memory of every run, and sets accuracy against "
    "both."
)


def write_report(
    runs: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    data: str | None = None,
    root: str | Path | None = None,
    charts_folder: str | Path | None = None,
    measure: bool = False,
) -> Path:
    """Write the page about one or several finished runs.

    Args:
        runs: their folders; the first one is described, the others are compared with it.
        out: the page to write; report.html in the first folder if not given.
        data, root: where the first run's pictures are, if they have moved since.
        charts_folder: where to write every chart as NAME.png, with its numbers as NAME.csv and NAME.json.
        measure: measure time and memory of every run now, so that accuracy stands against these too.
    """
    if out is not None:
        check_ending(out, ".html", ".htm")  # a page never replaces a model
    shown = measured(read_runs(runs)) if measure else timed(read_runs(runs))
    file = Path(out) if out is not None else shown[0].folder / "report.html"
    settings = shown[0].record["settings"]
    source = open_data(data or settings["data"], root=root or settings["root"])
    samples = None if _joint(shown[0].record) else take_samples(shown[0], source)
    chose = {run.name: open_model(run.folder) for run in shown if _chose_weights(run.record)}
    by_image = bool(shown[0].record["costs"].get("by_image"))
    kept = kept_tokens(open_model(shown[0].folder), source) if by_image else []
    drawn = draw(shown, selection(chose, source), kept)
    write_whole(file, page(shown, samples, drawn).encode())
    if charts_folder is not None:
        for chart in drawn.all():
            chart.save(charts_folder)
    return file


def _joint(record: Mapping[str, Any]) -> bool:
    """Whether tokens stand for patches of several frames, which no picture of one frame shows."""
    video = as_video(record["settings"].get("video"))
    return video is not None and video.inflate == "joint"


def _chose_weights(record: Mapping[str, Any]) -> bool:
    """Whether a run chose by data which weights train."""
    methods = record.get("chosen_methods") or record["settings"]["methods"]
    return any(isinstance(parse_method(text), FisherDelta) for text in methods)


def page(runs: Sequence[ShownRun], samples: Samples | None = None, drawn: Drawn | None = None) -> str:
    """The whole page; without samples no test pictures are on it."""
    drawn = draw(runs) if drawn is None else drawn
    first = runs[0].record
    title = f"{name_of(first)} on {first['data']['spec'].partition('?')[0]}"  # options stand below
    parts = [f"<h1>{escape(title)}</h1>", paragraph(_subtitle(first), note=True), first_screen(runs)]
    parts += _side_by_side(runs, drawn)
    if samples is not None:
        parts += [*tokens_section(samples), *attention_section(samples)]
    parts += _where_it_goes(first, drawn)
    parts += [heading("Learning"), charts(drawn.learning)]
    parts += by_class(first, drawn.confusion)
    for words, found in (
        ("Whether it knows when it is right", drawn.calibration),
        ("Which weights were chosen to train", drawn.selection),
        ("How many tokens pictures keep", drawn.kept),
    ):
        parts += [heading(words), charts(found)] if found else []
    parts += [heading("What was run"), *(part for run in runs for part in what_was_run(run))]
    return document(title, "\n".join(parts))


def document(title: str, body: str) -> str:
    """A page that is complete in itself."""
    style, script = ((files("vitrim.report") / name).read_text("utf-8") for name in ("page.css", "page.js"))
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{style}</style>'
    )
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n<main>{body}</main>\n'
        f"<script>{script}</script></body></html>\n"
    )


def _subtitle(record: Mapping[str, Any]) -> str:
    methods = ", ".join(record.get("chosen_methods") or record["settings"]["methods"])
    day = str(record.get("finished", ""))[:10]
    done = methods or "only the classifier trains"
    return f"{record['settings']['model']}; {done}; finished {day or 'before'}"


def _side_by_side(runs: Sequence[ShownRun], drawn: Drawn) -> list[str]:
    names, records = [run.name for run in runs], [run.record for run in runs]
    lines = in_words(records, [run.tested for run in runs], names)
    numbers = [*map(_numbers, records), None]
    body = [
        [(text, None if found is None else found[place]) for place, text in enumerate(astuple(row))]
        for row, found in zip(rows(records, names), numbers, strict=True)
    ]
    return [
        *map(paragraph, lines),
        heading("Side by side"),
        table(("run", *astuple(HEADINGS)[1:]), body, name="runs", own=1),
        paragraph(MEANINGS.format(one=thing(records[0])), note=True),
        charts(drawn.trade_offs),
        *([paragraph(said, note=True)] if drawn.trade_offs and (said := _unmeasured(records)) else []),
    ]


def _unmeasured(records: Sequence[Mapping[str, Any]]) -> str:
    """Why a chart of time or memory is not there."""
    if any("step_memory_mib" not in record for record in records):
        return MEASURE
    if any(record["step_memory_mib"] is None for record in records):
        return "This system does not tell how much memory a process took at its peak."
    return ""


def _numbers(record: Mapping[str, Any]) -> tuple[float | None, ...]:
    """What the columns of the table are sorted by."""
    results, found, speed = record["results"], record["costs"], speed_of(record)
    figure = next((results[name] for name in ("top1", "map", "r2") if results.get(name) is not None), None)
    ratio = speed["ratio"] if speed else None
    return (
        None, figure, found["trained_parameters"], record["model_bytes"], folded_gmacs(record), ratio,
    )  # fmt: skip


def _where_it_goes(record: Mapping[str, Any], drawn: Drawn) -> list[str]:
    """Tokens and operations of every block, beside the time they take."""
    if not drawn.spending:
        return []
    speed = speed_of(record)
    operations = folded_gmacs(record) / record["costs"]["plain"]["gmacs"]
    told = f"{operations:.2f} of the plain backbone's operations"
    told += (
        f", {speed['ratio']:.2f} of its time on batches of {speed['batch_size']}: operations are not time."
        if speed
        else "; the time was not measured (vitrim bench)."
    )
    return [heading("Where the cost goes"), paragraph(told), charts(drawn.spending)]
