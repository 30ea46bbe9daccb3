"""vitrim plan"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace
    from rich.table import Table

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
"""

LEAST_WIDTH = 112  # a method whose text is broken cannot be copied


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
        "--measure", action="store_true", help="measure milliseconds also where the budget names none"
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
    parser.add_argument("--plot", type=str | None, metavar="FILE", help="draw all proposals to a PNG file")


def run(chosen: Namespace) -> None:
    from pathlib import Path

    from rich.console import Console

    from vitrim.checks import check_positive
    from vitrim.planner.budget import parse_budget
    from vitrim.planner.proposals import propose
    from vitrim.planner.stopwatch import Stopwatch
    from vitrim.writing import write_whole

    check_positive("plan", "top", chosen.top)
    check_positive("plan", "classes", chosen.classes)
    budgets = _listed(chosen.budget) or []
    timed = chosen.measure or parse_budget(budgets).milliseconds is not None
    console = Console(soft_wrap=True, highlight=False, width=max(Console().width, LEAST_WIDTH))
    with Console(stderr=True).status("counting compositions"):
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
        )
    console.print(f"{chosen.model}, {proposals.budget}; plain: {_plain(proposals)}\n")
    console.print(_table(proposals, chosen.top))
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


def _table(proposals: Proposals, top: int) -> Table:
    from rich.table import Table

    timed = proposals.plain_milliseconds is not None
    table = Table(box=None, pad_edge=False)
    for name in ("GMACs", "share", *(["ms"] if timed else []), "trained", "MB", "gain"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("tuner", overflow="fold")
    table.add_column("reducer", overflow="fold")
    for proposal in proposals.found[:top]:
        table.add_row(*_row(proposal, timed))
    return table


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
    tuner, *reducers = map(short, proposal.methods)
    return [*cells, tuner, *(reducers or ["-"])]


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
    kinds = {source.rpartition(", ")[2] for source in sources}
    if len(kinds) > 1:
        lines.append(f"gains by {' and by '.join(sorted(kinds))} are on different scales: compare within one")
    if proposals.left_out:
        lines += ["", "left out:"] + [f"  {name}: {why}" for name, why in proposals.left_out.items()]
    return lines
