"""vitrim bench"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitrim.cli.asked_budget import at_budget, budget_option, budgets_of
from vitrim.cli.verbs.shared import composition_options, given_methods

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace
    from rich.console import Console

    from vitrim.network.model import StagedViT
    from vitrim.speed.rows import Measured, Row

DESCRIPTION = """
Measure speed side by side with the plain backbone, in every way a model can be run: eager, compiled, ONNX
Runtime in 32 and 8 bits, bfloat16. All take turns on the same images in one process, so ratios hold even on a
busy machine; the plain backbone measured twice shows how far they can be trusted. Latency at batch 1,
throughput at the best batch, one training step, and the peak memory of each. Give a trained run, or a
composition that need not be trained.
"""

EXAMPLES = """
vitrim bench runs/flowers
vitrim bench runs/flowers --ways eager,onnx --threads 2 --json speed.json --picture bars.png
vitrim bench --model vit_small_patch16_224 --method "EViT(keep=0.7, at=(3, 6, 9))" --batch_size 1
"""

COLUMNS = ("", "batch", "ms", "img/s", "time", "quartiles", "cpu", "MACs", "eager", "MiB")
READING = """time: for an image, plain backbone in the same way = 1, median over rounds; cpu: processor time;
MACs: operations, plain = 1; eager: time, plain backbone in eager mode = 1; MiB: peak above the weights.
The plain backbone again shows the noise: a difference smaller than that row's is none."""

WAY_NAMES = "eager,compiled,onnx,int8,bf16,bf16-compiled"


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "run", nargs="?", type=str | None, metavar="RUN", help="a run folder or a model.safetensors file"
    )
    composition_options(parser)
    budget_option(parser, several=True)
    parser.add_argument(
        "--ways",
        type=str | None,
        metavar="WAY,WAY",
        help=f"of {WAY_NAMES}; not given: all but the last that this machine and composition can",
    )
    parser.add_argument(
        "--figures",
        type=str,
        default="latency,throughput,step",
        metavar="FIGURE,FIGURE",
        help="of latency (batch 1), throughput (best batch), step (of training); usually all",
    )
    parser.add_argument(
        "--batch_size",
        action="append",
        type=_number,
        metavar="N",
        help="measure inference at N images at a time only, instead of --figures; may be repeated",
    )
    for name, value, words in (
        ("largest_batch", 64, "the largest batch tried for throughput"),
        ("step_batch", 16, "images of a training step"),
        ("rounds", 9, "turns that each candidate takes"),
    ):
        parser.add_argument(
            f"--{name}", type=int, default=value, metavar="N", help=f"{words} (usually {value})"
        )
    parser.add_argument(
        "--threads", type=int | None, metavar="N", help="processor threads; not given: torch's choice"
    )
    parser.add_argument(
        "--device", type=str | None, help="cpu or cuda; not given: the GPU where there is one"
    )
    parser.add_argument(
        "--json", type=str | None, metavar="FILE", help="write all figures with machine, versions and date"
    )
    parser.add_argument(
        "--picture",
        type=str | None,
        metavar="FILE",
        help="draw the ratios to a PNG file; of several budgets, against the share",
    )


def run(chosen: Namespace) -> None:
    import json
    from pathlib import Path

    import torch
    from rich.console import Console

    from vitrim.writing import write_whole

    if chosen.threads is not None:
        if chosen.threads < 1:
            raise ValueError(f"--threads must be at least 1, got {chosen.threads}")
        torch.set_num_threads(chosen.threads)
    places = {name: Path(chosen[name]) for name in ("json", "picture") if chosen[name] is not None}
    for name, place in places.items():
        if not place.parent.is_dir():
            raise FileNotFoundError(f"--{name}: there is no folder {place.parent} to write {place.name} into")
    model, shares = _model(chosen), budgets_of(chosen)
    console, found = Console(soft_wrap=True, highlight=False, markup=False), []
    each: list[float | None] = [*shares] or [None]
    for share in each:
        if share is not None:
            at_budget(model, share, chosen.run, chosen)
            console.print(f"budget {share:g}: {', '.join(map(repr, model.methods))}")
        found.append(_measured(model, chosen))
        _print(console, found[-1], composition=chosen.run is None)
    records = [measured.to_json() for measured in found]
    if "json" in places:
        pairs = zip(shares, records, strict=False)
        several = [{"budget": share, **record} for share, record in pairs]
        written = several if len(shares) > 1 else records[0]
        write_whole(places["json"], (json.dumps(written, indent=1) + "\n").encode())
    if "picture" in places:
        from vitrim.speed.picture import picture, picture_of_budgets

        drawn = picture_of_budgets(shares, found) if len(shares) > 1 else picture(found[0])
        write_whole(places["picture"], drawn)


def _measured(model: StagedViT, chosen: Namespace) -> Measured:
    import sys

    from vitrim.speed.measuring import measure_speed

    return measure_speed(
        model,
        ways=_listed(chosen.ways),
        figures=_listed(chosen.figures) or (),
        batch_sizes=_batches(chosen.batch_size),
        largest_batch=chosen.largest_batch,
        step_batch=chosen.step_batch,
        rounds=chosen.rounds,
        device=chosen.device,
        say=lambda words: sys.stderr.write(f"{words}\n") if sys.stderr.isatty() else None,
    )


def _number(value: int | str | list[int]) -> int | list[int]:
    # On the command line each number comes alone; a configuration file gives the whole list.
    return [int(number) for number in value] if isinstance(value, list) else int(value)


def _batches(value: int | list[int] | None) -> list[int]:
    return [value] if isinstance(value, int) else list(value or ())


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _print(console: Console, measured: Measured, composition: bool) -> None:
    """One table for each question, and how to read them; no line is wider than 80."""
    from vitrim.speed.ways import WAYS

    by_figure: dict[str, list[Row]] = {}
    for row in measured.rows:
        by_figure.setdefault(_title(row), []).append(row)
    for title, rows in by_figure.items():
        cells = [COLUMNS, *(_cells(row, composition) for row in rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        console.print(f"\n{title}\n{_line(COLUMNS, widths)}")
        way = ""
        for row, texts in zip(rows, cells[1:], strict=True):
            if row.way != way:
                console.print(WAYS[row.way].words)
                way = row.way
            console.print(_line(texts, widths))
    record = measured.record
    units = "\n".join(f"units for {words}" for words in record["machine"]["units"].split("; "))
    console.print(
        f"\n{record['backbone']}, {record['device']}, {record['threads']} thread(s), "
        f"{record['rounds']} rounds; {record['machine']['cpu']}, torch {record['versions']['torch']}, "
        f"{record['date']}\n{units}\n{READING}"
    )
    for line in measured.left_out:
        console.print(line)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    """The name to the left, figures to the right."""
    figures = "  ".join(f"{cell:>{width}}" for cell, width in zip(cells[1:], widths[1:], strict=True))
    return f"  {cells[0]:<{widths[0]}}  {figures}".rstrip()


def _title(row: Row) -> str:
    named = {
        "latency": "latency: one image at a time",
        "throughput": "throughput: each at its best batch",
        "training step": "one training step; of the plain backbone everything trains",
    }
    return named.get(row.figure, f"batches of {row.batch_size}")


def _cells(row: Row, composition: bool) -> tuple[str, ...]:
    low, high = row.quartiles
    return (
        "with methods" if composition and row.name == "as trained" else row.name,
        f"{row.batch_size}",
        f"{row.milliseconds:.4g}",
        f"{row.images_per_second:,.4g}",
        f"{row.ratio:.3f}",
        f"{low:.3f}-{high:.3f}",
        f"{row.cpu_ratio:.3f}",
        "" if row.macs is None else f"{row.macs:.3f}",
        "" if row.to_eager is None else f"{row.to_eager:.3f}",
        "" if row.memory_mib is None else f"{row.memory_mib:,.0f}",
    )


def _model(chosen: Namespace) -> StagedViT:
    from vitrim.runs.opening import open_model
    from vitrim.settings.run_plan import Asked, compose_asked

    given = chosen.model or chosen.recipe or chosen.method
    if chosen.run is not None and given:
        raise ValueError("give a run or a composition (--model, --recipe, --method), not both")
    if chosen.run is not None:
        return open_model(chosen.run)
    if not given:
        raise ValueError("what is to be measured? give a run folder, or --model with --method or --recipe")
    asked = Asked(
        model=chosen.model,
        recipe=chosen.recipe,
        methods=given_methods(chosen),
        pretrained=chosen.pretrained,
        weights=chosen.weights,
        image_size=chosen.image_size,
        in_chans=chosen.in_chans,
        patch_size=chosen.patch_size,
        video=chosen.video,
    )
    return compose_asked(asked)
