"""vitrim plan"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitrim.cli.scheduling import show_schedules
from vitrim.cli.used_options import refuse_unused
from vitrim.cli.verbs.shared import steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jsonargparse import ArgumentParser, Namespace
    from rich.console import Console

    from vitrim.planner.proposals import Proposal, Proposals

DESCRIPTION = """
Propose compositions of a tuner and a reducer that stay within a budget: a share of the plain backbone's
operations, milliseconds for an image on this machine, or megabytes of the file that is stored for each task.
Operations and files are counted from shapes, without weights, data or GPU; milliseconds are measured.
Accuracy is what papers print for the same kinds of methods, at their settings; nothing is predicted.
"""

EXAMPLES = """
vitrim plan --model vit_base_patch16_224 --budget 0.6
vitrim plan --model vit_small_patch16_224 --budget 60% --budget 0.3MB --plot plan.png
vitrim plan --model vit_small_patch16_224 --budget 12ms --batch_size 8
vitrim plan --model vitrim_tiny_patch8_96 --schedule --budget 0.6 --data folder:flowers
vitrim plan --model vit_small_patch16_224 --schedule --measure --budget 0.6 --plot staircase.png
"""

PROPOSING = (
    *("model", "budget", "classes", "image_size", "measure", "batch_size", "device"),
    *("tuner", "reducer", "top", "plot"),
)


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        type=str,
        required=True,
        metavar="NAME",
        help="backbone: a timm name, a checkpoint file, or the bundled one",
    )
    parser.add_argument(
        "--budget",
        action="append",
        type=_text,
        metavar="AMOUNT",
        help="0.6 or 60%% (share of the plain operations), 12ms (for an image, here) or 1.5MB (file for each "
        "task); may be repeated, then all must hold",
    )
    parser.add_argument(
        "--classes", type=int, default=100, metavar="N", help="classes of the task (usually 100)"
    )
    parser.add_argument(
        "--image_size",
        type=int | tuple[int, int] | None,
        metavar="PIXELS",
        help='side of the images, or "[height, width]"; not given: what the backbone was made for',
    )
    parser.add_argument(
        "--measure",
        action="store_true",
        help="measure milliseconds also where the budget names none; with --schedule, a block at many counts "
        "of tokens",
    )
    parser.add_argument(
        "--batch_size", type=int, default=1, metavar="N", help="images per measured batch (usually 1)"
    )
    parser.add_argument(
        "--device",
        type=str | None,
        metavar="NAME",
        help="where to measure; not given: the GPU if there is one",
    )
    for kind in ("tuner", "reducer"):
        parser.add_argument(
            f"--{kind}",
            action="append",
            type=_text,
            metavar="NAME",
            help=f"only this {kind}, such as {'LoRA' if kind == 'tuner' else 'EViT'}; may be repeated",
        )
    parser.add_argument("--top", type=int, default=12, metavar="N", help="rows to show (usually 12)")
    parser.add_argument(
        "--plot",
        type=str | None,
        metavar="FILE",
        help="draw all proposals to a PNG file, with --schedule --measure the time of a block by its tokens",
    )
    _schedule_options(parser)


def _schedule_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("where to reduce")
    group.add_argument(
        "--schedule",
        action="store_true",
        help="instead: blocks and shares for EViT that lose the least attention on training images of "
        "--data, beside the placements of TR-PTS; --budget is a share, or with --measure 12ms too, and then "
        "schedules are found at the steps of the measured times",
    )
    group.add_argument("--data", type=str | None, metavar="SPEC", help="the task's data; the bundled digits")
    group.add_argument("--root", type=str | None, metavar="PATH", help="where that data lies")
    group.add_argument("--weights", type=str | None, metavar="FILE", help="weights of --model")
    group.add_argument("--pretrained", action="store_true", help="let timm download them")
    group.add_argument(
        "--threads", type=int | None, metavar="N", help="processor threads to measure with; usually torch's"
    )
    group.add_argument(
        "--cache",
        type=str | None,
        metavar="FOLDER",
        help="where measured times are kept; not given: vitrim/staircases in the user's cache",
    )


def run(chosen: Namespace) -> None:
    from pathlib import Path

    from rich.console import Console

    from vitrim.checks import check_positive
    from vitrim.planner.budget import parse_budget
    from vitrim.planner.proposals import propose
    from vitrim.planner.stopwatch import Stopwatch
    from vitrim.writing import write_whole

    budgets = _listed(chosen.budget) or []
    if chosen.schedule:
        show_schedules(chosen, budgets)
        return
    refuse_unused(chosen, PROPOSING, "proposals; give --schedule with it")
    check_positive("plan", "top", chosen.top)
    check_positive("plan", "classes", chosen.classes)
    timed = chosen.measure or parse_budget(budgets).milliseconds is not None
    console = Console(soft_wrap=True, highlight=False, markup=False)
    with steps("counting compositions") as tick:
        stopwatch = None
        if timed:
            stopwatch = Stopwatch(chosen.model, chosen.image_size, chosen.batch_size, device=chosen.device)
        proposals = propose(
            chosen.model,
            *budgets,
            classes=chosen.classes,
            image_size=chosen.image_size,
            tuners=_listed(chosen.tuner),
            reducers=_listed(chosen.reducer),
            stopwatch=stopwatch,
            tick=tick,
        )
    console.print(f"{chosen.model}, {proposals.budget}; plain: {_plain(proposals)}\n")
    for title, shown in _groups(proposals, chosen.top):
        console.print(title)
        _print(console, shown, proposals.plain_milliseconds is not None)
        console.print()
    for line in _notes(proposals, chosen.top):
        console.print(line)
    if chosen.plot is not None:
        from vitrim.planner.picture import picture

        write_whole(Path(chosen.plot), picture(proposals))
        console.print(f"\nwrote {chosen.plot}")


def _text(value: str | float | list[str | float]) -> str | list[str]:
    # On the command line each text comes alone; a configuration file gives the whole list.
    return [str(text) for text in value] if isinstance(value, list) else str(value)


def _listed(value: str | list[str] | None) -> list[str] | None:
    return [value] if isinstance(value, str) else value


def _plain(proposals: Proposals) -> str:
    words = f"{proposals.plain_gmacs:.3f} GMACs"
    if proposals.plain_milliseconds is not None:
        words += f", {proposals.plain_milliseconds:.3g} ms for an image"
    return words


def _groups(proposals: Proposals, top: int) -> list[tuple[str, list[Proposal]]]:
    """The first rows under titles: gains by one kind of mean are not set among those by the other."""
    found: dict[str, list[Proposal]] = {}
    for proposal in proposals.found[:top]:
        kind = proposal.published.kind if proposal.published else ""
        title = f"papers print a gain, by the {kind}:" if kind else "no gain is printed, gentlest first:"
        found.setdefault(title, []).append(proposal)
    return list(found.items())


def _print(console: Console, shown: Sequence[Proposal], timed: bool) -> None:
    """A table; where the terminal is too narrow for methods beside figures, they stand below them."""
    titles = ("GMACs", "share", *(["ms"] if timed else []), "trained", "MB", "gain", "methods")
    rows = [_row(proposal, timed) for proposal in shown]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    below = sum(widths) + 2 * len(widths) > console.width
    for row in (titles, *rows):
        figures = "  ".join(f"{cell:>{width}}" for cell, width in zip(row[:-1], widths, strict=False))
        if below and row is not titles:
            console.print(f"{figures}\n    {row[-1]}")
        else:
            console.print(f"{figures}  {row[-1]}")


def _row(proposal: Proposal, timed: bool) -> list[str]:
    from vitrim.planner.ladders import short

    printed = proposal.published
    cells = [
        f"{proposal.gmacs:.3f}",
        f"{proposal.share:.3f}",
        f"{proposal.trained:,}",
        f"{proposal.megabytes:.3g}",
        f"{printed.gain:+.1f}" if printed else "-",
    ]
    if timed:
        cells.insert(2, f"{proposal.milliseconds:.3g}")
    return [*cells, " + ".join(map(short, proposal.methods))]


def _notes(proposals: Proposals, top: int) -> list[str]:
    lines = []
    hidden = len(proposals.found) - top
    if hidden > 0:
        lines.append(f"and {hidden} more; --top {len(proposals.found)} shows them")
    lines += [
        "",
        "share: of the plain operations, in the papers' convention, nothing folded; MB: file for each task.",
        "gain: points over full fine-tuning that papers print for these methods with ViT-B/16 on VTAB-1K, at",
        "their own settings, which are in brackets here; no forecast for the row it stands in:",
    ]
    sources = {proposal.published.source for proposal in proposals.found if proposal.published}
    lines += [f"  {source}" for source in sorted(sources)] or ["  none of the three papers prints these"]
    kinds = {proposal.published.kind for proposal in proposals.found if proposal.published}
    if len(kinds) > 1:
        names = " and by the ".join(sorted(kinds))
        lines.append(f"gains by the {names} are on two scales: compare within one")
    if proposals.left_out:
        lines += ["", "left out:"] + [f"  {name}: {why}" for name, why in proposals.left_out.items()]
    return lines
