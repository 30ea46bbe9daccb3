"""vitrim data"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrim.cli.verbs.shared import place_options, refuse_mistyped

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from vitrim.data.checking import Decoded
    from vitrim.data.source import DataSource

DESCRIPTION = """
Look a data set over before training on it: classes, images per split beside the published numbers, balance,
image sizes. --check decodes every image and lists all that are broken, with exit code 2 if there are any.
"""

EXAMPLES = """
vitrim data digits
vitrim data folder:flowers --check --sheet flowers.png
vitrim data vtab:eurosat --root ~/data
vitrim data torchvision:CIFAR100 --root ~/data --download
vitrim data "fewshot:folder:flowers?shots=4&seed=1" --write_lists flowers
"""


def options(parser: ArgumentParser) -> None:
    parser.add_argument("spec", metavar="SPEC", type=str, help="the data; vitrim list data shows all kinds")
    place_options(parser)
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="for data that has to be split (usually 0)"
    )
    parser.add_argument("--check", action="store_true", help="decode every image, list what is broken")
    parser.add_argument(
        "--sheet",
        type=str | None,
        nargs="?",
        const="",
        metavar="FILE",
        help="write a contact sheet, images of each class on one picture; not named: SPEC.png here",
    )
    parser.add_argument(
        "--write_lists",
        type=str | None,
        metavar="FOLDER",
        help="write the lists of a few-shot set in the layout of NOAH, below FOLDER/annotations",
    )


def run(chosen: Namespace) -> None:
    refuse_mistyped(chosen.spec)
    from rich.console import Console

    from vitrim.data import describe, open_data
    from vitrim.data.checking import findings
    from vitrim.data.summary import class_table, look_notes, size_lines, split_table

    data = open_data(chosen.spec, root=chosen.root, seed=chosen.seed, download=chosen.download)
    out = Console(soft_wrap=True, highlight=False, markup=False)
    if data.task == "regress":
        out.print(describe(replace(data, notes=())), end="\n\n")
    else:
        what = "classes" if data.task == "classify" else "labels"
        out.print(f"{data.spec}: {len(data.classes)} {what}\n")
        for table in (split_table(data), class_table(data)):
            out.print(table)
            out.print()
    decoded = _decode(data, chosen.check)
    for line in size_lines(decoded, chosen.check, data.called):
        out.print(line)
    wrong, worth = findings(data)
    for line in worth:
        out.print(f"note: {line}")
    for line in (*look_notes(decoded, data.called), *_repeated(decoded, data.called)):
        out.print(f"note: {line}")
    if chosen.write_lists is not None:
        for path in _write_lists(data, Path(chosen.write_lists)):
            out.print(f"list: {path}")
    if chosen.sheet is not None:
        out.print(f"contact sheet: {_sheet(data, chosen.sheet)}")
    _end(out, decoded, wrong, chosen.check, data.called)


def _decode(data: DataSource, every: bool) -> Decoded:
    from vitrim.data.checking import count_jobs, decode

    if not every:
        return decode(data, every=False)
    from rich.progress import Progress

    with Progress(transient=True) as progress:
        task = progress.add_task("decoding", total=count_jobs(data, every=True))
        return decode(data, every=True, tick=lambda: progress.advance(task))


def _repeated(decoded: Decoded, called: str) -> list[str]:
    if not decoded.repeated:
        return []
    first, second = decoded.repeated[0]
    return [
        f"{len(decoded.repeated):,} test {called} have the same pixels as one of train or val, "
        f"such as {second} and {first}"
    ]


def _write_lists(data: DataSource, folder: Path) -> list[Path]:
    from vitrim.data import parse_spec
    from vitrim.data.sampling import write_lists

    spec = parse_spec(data.spec)
    if spec.kind != "fewshot":
        raise ValueError(
            f"lists are written for few-shot sets, but {data.spec} is none; use fewshot:FOLDER?shots=4&seed=1"
        )
    return write_lists(data, spec.integer("shots", 0), spec.integer("seed", 0), folder)


def _sheet(data: DataSource, asked: str) -> Path:
    from vitrim.data.sheet import draw_sheet

    name = "".join(letter if letter.isalnum() else "-" for letter in data.spec).strip("-")
    return draw_sheet(data, Path(asked or f"{name}.png").expanduser())


def _end(out: Any, decoded: Decoded, wrong: list[str], every: bool, called: str) -> None:
    """The broken images or clips, all of them, and the error that sets the exit code."""
    for line in (*wrong, *decoded.broken):
        out.print(f"broken: {line}")
    if decoded.broken:
        more = "" if every else " (of a sample: --check looks at all)"
        count = f"{len(decoded.broken):,} of {decoded.images:,} {called}"
        raise ValueError(f"{count} cannot be read; they are listed above{more}")
    if wrong:
        raise ValueError(f"the lists contradict themselves: {wrong[0]}")
    if every:
        out.print(f"all {decoded.images:,} {called} can be read")
