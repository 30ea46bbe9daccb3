"""The page itself: no scripts, no links to elsewhere, pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from html import escape
from pathlib import Path
from typing import Any

from vitrim.data import open_data
from vitrim.report.by_class import by_class
from vitrim.report.figures import curves, kept_patches
from vitrim.report.selection_figures import section
from vitrim.report.summary import HEADINGS, in_words, name_of, names_of, rows
from vitrim.runs.folder import RunFolder
from vitrim.runs.opening import open_model
from vitrim.runs.tested import TestedPictures, read_tested
from vitrim.settings.deviations import in_words as deviations_in_words
from vitrim.writing import write_whole

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 60rem;
       margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid #ddd; font-weight: normal; }
th { color: #555; font-size: .85rem; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tbody tr:first-child { background: #eef5f7; font-weight: 600; }
tbody tr:first-child td { font-weight: inherit; }
table.plain tbody tr:first-child { background: none; font-weight: normal; }
img { max-width: 100%; height: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .9rem; }
dt { color: #555; } dd { margin: 0; overflow-wrap: anywhere; }
.note { color: #555; font-size: .9rem; }
"""


def write_report(runs: Sequence[str | Path], out: str | Path | None = None) -> Path:
    """Write the page about one or several finished runs; into the folder of the first one if not told
    where.
    """
    if not runs:
        raise ValueError("no runs were given; name the folders of finished runs")
    folders = [RunFolder.open(run) for run in runs]
    records = [_finished(folder) for folder in folders]
    file = Path(out) if out is not None else folders[0].path / "report.html"
    source = open_data(records[0]["settings"]["data"], root=records[0]["settings"]["root"])
    models = [open_model(folder.path) for folder in folders]
    kept = kept_patches(models[0], source)
    chosen = section(dict(zip(_titles(records, folders), models, strict=True)), source)
    tested = [read_tested(folder.path) for folder in folders]
    names = names_of(records)
    labels = names if len(set(names)) == len(names) else _titles(records, folders)
    histories = {label: folder.history() for label, folder in zip(labels, folders, strict=True)}
    write_whole(file, page(records, curves(histories), kept, chosen, tested).encode())
    return file


def _titles(records: Sequence[Mapping[str, Any]], folders: Sequence[RunFolder]) -> list[str]:
    """What to call each run in a picture; by folder where method and data do not tell them apart."""
    titles = [f"{name_of(record)} on {record['data']['spec']}" for record in records]
    if len(set(titles)) == len(titles):
        return titles
    return [f"{title} ({folder.path.name})" for title, folder in zip(titles, folders, strict=True)]


def _finished(folder: RunFolder) -> dict[str, Any]:
    record = folder.record()
    if record.get("status") != "finished":
        raise ValueError(f"the run {folder.path} has not finished; continue it with resume")
    return folder.record_to_show()


def page(
    records: Sequence[Mapping[str, Any]],
    learning: bytes,
    kept: bytes | None,
    chosen: Sequence[tuple[str, bytes]] = (),
    tested: Sequence[TestedPictures | None] | None = None,
) -> str:
    first = records[0]
    title = f"{name_of(first)} on {first['data']['spec']}"
    parts = [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(line)}</p>" for line in in_words(records, tested))]
    parts += ["<h2>Side by side</h2>", _table(records)]
    parts.append(
        '<p class="note">Trained: parameters, and their share of the backbone. File: what this task needs on '
        "disk. GMACs: billions of multiply-adds for one image, as executed. Time: for one image, where the "
        "plain backbone takes 1; median of rounds in turns. Full fine-tuning was not run: its costs are "
        "known. Intervals and tests say what the choice of test pictures can do, not what another seed would."
        "</p>"
    )
    parts += ["<h2>Learning</h2>", _image(learning, "training loss and validation results by epoch")]
    parts += by_class(first)
    if kept is not None:
        parts += [
            "<h2>What the model looks at</h2>",
            "<p>The patches left after each block that shortens the sequence. Patches that share one token "
            "are shown in their common mean colour, tinted blue, dropped ones in white. Above each image: "
            "its class.</p>",
            _image(kept, "test images with the patches kept after each reducing block"),
        ]
    parts += ["<h2>Which weights were chosen to train</h2>"] if chosen else []
    for words, picture in chosen:
        parts += [f"<p>{escape(words)}</p>", _image(picture, words)]
    parts += ["<h2>What was run</h2>", *(_facts(record) for record in records)]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}{viewport}</head>\n<body>\n{body}\n</body></html>\n'


def _table(records: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in astuple(HEADINGS))
    lines = ["".join(f"<td>{escape(text)}</td>" for text in astuple(row)) for row in rows(records)]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _image(png: bytes, words: str) -> str:
    return f'<img alt="{escape(words)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def protocol_words(protocol: Mapping[str, Any] | None) -> str:
    """Which published protocol a run followed, and every setting in which it did not."""
    if protocol is None:
        return "none"
    found = deviations_in_words(protocol["deviations"])
    return f"{protocol['name']}, {protocol['follows']}" + (f"; different here: {found}" if found else "")


def _facts(record: Mapping[str, Any]) -> str:
    settings, images = record["settings"], record["data"]["images"]
    training = ", ".join(
        f"{name} {value}" for name, value in settings["training"].items() if value is not None
    )
    machine = record["machine"]
    facts = {
        "run": name_of(record),
        "methods": ", ".join(settings["methods"]) or "none: only the classifier trains",
        "backbone": f"{settings['model']}, {record['backbone']['kind']} weights",
        "data": f"{record['data']['spec']}: "
        + ", ".join(f"{count:,} {name}" for name, count in images.items()),
        "training": training,
        "protocol": protocol_words(record.get("protocol")),
        "weights kept": f"epoch {record['results']['epoch']} ({record['results']['select']})",
        "tokens after each block": " ".join(map(str, record["costs"]["tokens"])),
        "time": f"{record['seconds_per_epoch']:.1f} s per epoch on {machine.get('gpu', machine['cpu'])}, "
        f"{machine['threads']} threads",
        "versions": ", ".join(f"{name} {number}" for name, number in record["versions"].items()),
    }
    return (
        "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items()) + "</dl>"
    )
