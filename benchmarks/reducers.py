"""How much time reducers take beyond their limit, on this machine's CPU.

    OMP_NUM_THREADS=1 python benchmarks/reducers.py --out reducers.jsonl     # measures, or goes on measuring
    python benchmarks/reducers.py --out reducers.jsonl --rounds 0            # prints the tables there are

For every backbone, batch size and number of threads, all candidates take turns on the same images in one
process: plain timm with fused attention, plain timm again, vitrim without methods, and for every reducer
plain slicing to the same token counts, then the composition; the first composition takes its turn twice. How
what stands there twice differs is noise. A line of the file is one round of one such cell; a killed run loses
at most one, and the same command goes on where it stopped. With --compile or --onnx everything is compiled
with inductor or exported and run by ONNX Runtime instead; those are cells of their own.

Printed are medians over rounds of the ratio of times within one round, with quartiles, beside the ratio of
multiply-accumulates, by the clock and by the processor time of this process. Time relative to slicing is a
reducer's overhead. Weights are random, and all candidates of a cell hold the same ones.
"""

import argparse
import gc
import shlex
import statistics
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from noted import note, noted
from slicing import sliced

from vitrim import compose, costs
from vitrim.measuring.bench import going_round
from vitrim.measuring.machine import machine, versions
from vitrim.network.model import StagedViT
from vitrim.speed.plain import plain_macs
from vitrim.speed.ways import Runs, plain_backbone, prepared

METHODS = (
    "EViT(keep=0.7, at=(3, 6, 9))",
    "ToMe(r=13)",
    "Bipartite(at=(6,))",
    "DynamicViT(keep=0.7, at=(3, 6, 9))",
    "Pool(at=(6,))",
)
MODELS = ("vit_small_patch16_224", "vit_base_patch16_224")
PLAIN, AGAIN, BARE = "plain timm", "plain timm again", "vitrim, no methods"

Lines = Sequence[dict[str, Any]]


class Cell(NamedTuple):
    """What is measured in one go."""

    model: str
    batch: int
    threads: int
    way: str


class Candidate(NamedTuple):
    """Who takes turns; `limit` is the candidate that its overhead is counted from."""

    name: str
    run: Runs
    macs: float
    limit: str | None = None


def main(given: Sequence[str] | None = None) -> None:
    chosen = arguments(given)
    torch.set_grad_enabled(False)
    for threads, model, batch in product(chosen.threads, chosen.model, chosen.batch):
        cell = Cell(
            model, batch, threads, "onnx" if chosen.onnx else "compiled" if chosen.compile else "eager"
        )
        missing = chosen.rounds - len(rounds_of(chosen.out, cell, chosen.methods))
        if missing > 0:
            measure(cell, missing, chosen)
        print(table(cell, rounds_of(chosen.out, cell, chosen.methods)), flush=True)


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="JSON lines; files of --onnx lie in a folder beside it"
    )
    parser.add_argument("--model", nargs="+", default=MODELS, help="timm names (default: ViT-S/16, ViT-B/16)")
    parser.add_argument("--batch", nargs="+", type=int, default=(1, 8), help="batch sizes (default: 1 8)")
    parser.add_argument(
        "--threads", nargs="+", type=int, default=(1,), help="processor threads, such as 1 2 (default: 1)"
    )
    parser.add_argument("--rounds", type=int, default=9, help="turns in all (default: 9)")
    parser.add_argument("--methods", nargs="+", default=METHODS, help="reducers as text (default: five)")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--compile", action="store_true", help="compile every candidate with inductor")
    way.add_argument("--onnx", action="store_true", help="export every candidate, run it by ONNX Runtime")
    return parser.parse_args(given)


def measure(cell: Cell, rounds: int, chosen: argparse.Namespace) -> None:
    """Append rounds of one cell to the file."""
    torch.set_num_threads(cell.threads)
    torch._dynamo.reset()
    folder = chosen.out.with_name(f"{chosen.out.stem}-files")
    if chosen.onnx:
        folder.mkdir(exist_ok=True)
    found = {each.name: each for each in candidates(cell, chosen.methods, folder)}
    size = compose(cell.model).preprocess.image_size
    images = torch.randn(cell.batch, 3, *size, generator=torch.Generator().manual_seed(0))
    about = {
        **cell._asdict(),
        "methods": list(chosen.methods),
        "macs": {name: each.macs for name, each in found.items()},
        "limits": {name: each.limit for name, each in found.items()},
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
    }
    calls = {name: partial(each.run, images) for name, each in found.items()}
    for turns in islice(going_round(calls, torch.device("cpu")), rounds):
        line = {**about, "date": datetime.now(UTC).isoformat(timespec="seconds"), "turns": turns}
        note(chosen.out, line)
    del calls, found
    gc.collect()


def candidates(cell: Cell, methods: Sequence[str], folder: Path) -> Iterator[Candidate]:
    """Everything that takes turns, in their order; with one reducer its limit comes right before it."""
    bare = compose(cell.model).eval()
    whole = plain_macs(bare)

    def ready(model: StagedViT, called: str) -> Runs:
        model.load_state_dict(bare.state_dict(), strict=False, assign=True)
        return prepared(cell.way, model.eval(), folder, f"{cell.model}-{called}", torch.device("cpu"))

    plain = prepared(cell.way, plain_backbone(bare), folder, f"{cell.model}-plain", torch.device("cpu"))
    yield Candidate(PLAIN, plain, 1.0)
    yield Candidate(AGAIN, plain, 1.0)
    yield Candidate(BARE, ready(bare, "bare"), costs(bare).macs / whole)
    for number, method in enumerate(methods):
        called, limit = "".join(filter(str.isalnum, method)), f"slicing like {method}"
        cut, composed = sliced(cell.model, [method]), compose(cell.model, method)
        yield Candidate(limit, ready(cut, f"{called}-sliced"), costs(cut).macs / whole)
        run, macs = ready(composed, called), costs(composed).macs / whole
        yield Candidate(method, run, macs, limit)
        if number == 0:
            yield Candidate(f"{method} again", run, macs, method)


def rounds_of(path: Path, cell: Cell, methods: Sequence[str]) -> list[dict[str, Any]]:
    """The rounds of one cell with these reducers."""
    return [
        row
        for row in noted(path)
        if Cell(*(row[name] for name in Cell._fields)) == cell and row["methods"] == list(methods)
    ]


def table(cell: Cell, rounds: Lines) -> str:
    """The rows of one cell, as docs/measurements.md takes them."""
    title = f"{cell.model}, batch {cell.batch}, {cell.threads} threads, {cell.way}, {len(rounds)} rounds"
    if len(rounds) < 3:
        return f"{title}: too few for a median and quartiles"
    head = rounds[-1]
    lines = [
        f"{title}; {head['machine']['cpu']}, torch {head['versions']['torch']}, {head['date']}",
        "| candidate | MACs | time, plain timm = 1 | CPU | time, slicing = 1 | CPU | ms |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, limit in head["limits"].items():
        milliseconds = statistics.median(1000 * row["turns"][name][cell.threads == 1] for row in rounds)
        beyond = ratios(rounds, name, limit) if limit else " | "
        lines.append(
            f"| {name} | {head['macs'][name]:.3f} | {ratios(rounds, name, PLAIN)} | {beyond} "
            f"| {milliseconds:.0f} |"
        )
    return "\n".join((*lines, ""))


def ratios(rounds: Lines, name: str, base: str) -> str:
    """Two cells of the table: by the clock with quartiles, and of processor time with quartiles."""
    texts = []
    for clock in (0, 1):
        found = [row["turns"][name][clock] / row["turns"][base][clock] for row in rounds]
        low, middle, high = statistics.quantiles(found, n=4)
        texts.append(f"{middle:.3f} ({low:.3f} to {high:.3f})")
    return " | ".join(texts)


if __name__ == "__main__":
    main()
