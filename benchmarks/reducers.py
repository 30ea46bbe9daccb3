"""How much time reducers take beyond their limit, on this machine's CPU. Options: --help.

For every backbone and batch size, all candidates take turns on the same images: plain timm with fused
attention, plain timm again (how the two differ is noise), vitrim without methods, and for every reducer the
composition and plain slicing to the same token counts. Printed are medians over rounds of the ratio of times
within one round, with quartiles, beside the ratio of multiply-accumulates. Time relative to slicing is a
reducer's overhead.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import timm
import torch
from slicing import sliced
from torch import nn

from vitrim import compose, costs
from vitrim.measuring.bench import Speed, Turn, relative, take_turns
from vitrim.measuring.machine import machine, versions

METHODS = (
    "EViT(keep=0.7, at=(3, 6, 9))",
    "ToMe(r=13)",
    "Bipartite(at=(6,))",
    "DynamicViT(keep=0.7, at=(3, 6, 9))",
    "Pool(at=(6,))",
)
PLAIN, AGAIN, BARE = "plain timm", "plain timm again", "vitrim, no methods"


@dataclass(frozen=True)
class Row:
    """One candidate on one backbone and batch size."""

    model: str
    batch: int
    name: str
    macs: float
    """multiply-accumulates as executed, plain timm = 1"""
    to_plain: Speed
    to_slicing: Speed | None
    """None for candidates that reduce nothing"""


def main(given: Sequence[str] | None = None) -> None:
    chosen = arguments(given)
    torch.set_num_threads(chosen.threads)
    rows: list[Row] = []
    for model in chosen.model:
        for batch in chosen.batch:
            found = measure(model, batch, chosen.methods, chosen.rounds, chosen.compile)
            print(table(found), flush=True)
            rows += found
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(record(rows, chosen), indent=1) + "\n", encoding="utf-8")


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    models = ("vit_small_patch16_224", "vit_base_patch16_224")
    parser.add_argument(
        "--model", nargs="+", default=models, help="timm names (default: ViT-S/16 and ViT-B/16)"
    )
    parser.add_argument("--batch", nargs="+", type=int, default=(1, 8), help="batch sizes (default: 1 8)")
    parser.add_argument("--threads", type=int, default=2, help="processor threads (default: 2)")
    parser.add_argument("--rounds", type=int, default=9, help="turns each candidate takes (default: 9)")
    parser.add_argument("--methods", nargs="+", default=METHODS, help="reducers as text (default: all)")
    parser.add_argument("--compile", action="store_true", help="compile every candidate with inductor")
    parser.add_argument(
        "--json", type=Path, help="write all rows with machine, date and command to this file"
    )
    return parser.parse_args(given)


def measure(model: str, batch: int, methods: Sequence[str], rounds: int, compiled: bool = False) -> list[Row]:
    """All candidates on one backbone and batch size, measured in one run."""
    plain = timm.create_model(model).eval()
    candidates: dict[str, nn.Module] = {PLAIN: plain, AGAIN: plain, BARE: compose(model).eval()}
    limits = {method: f"slicing like {method}" for method in methods}
    for method, limit in limits.items():
        candidates[method] = compose(model, method).eval()
        candidates[limit] = sliced(model, [method])
    whole = costs(candidates[BARE])
    macs = {name: costs(made).macs for name, made in candidates.items() if name not in (PLAIN, AGAIN)}
    macs[PLAIN] = macs[AGAIN] = whole.macs_paper + plain.head.weight.numel()
    images = torch.randn(batch, 3, *whole.image_size, generator=torch.Generator().manual_seed(0))
    run = {name: torch.compile(made) for name, made in candidates.items()} if compiled else candidates
    turns = take_turns(run, images, rounds)

    def row(name: str, limit: str | None) -> Row:
        return Row(model, batch, name, macs[name] / macs[PLAIN], against(turns, name, PLAIN, batch),
                   None if limit is None else against(turns, name, limit, batch))  # fmt: skip

    return [row(name, limits.get(name)) for name in candidates]


def against(turns: dict[str, list[Turn]], name: str, first: str, batch: int) -> Speed:
    return relative(name, turns[name], turns[first], batch)


def table(rows: Sequence[Row]) -> str:
    """The rows of one backbone and batch size as text."""
    head = f"{rows[0].model}, batch {rows[0].batch}, {torch.get_num_threads()} threads"
    names = (
        f"{'':52} {'MACs':>5}  {'time, plain timm = 1':22} {'CPU':>5}  {'time, slicing = 1':22} {'CPU':>5}"
    )
    lines = [
        f"{row.name:52} {row.macs:5.3f}  {figures(row.to_plain)}  {figures(row.to_slicing)}" for row in rows
    ]
    return "\n".join((head, names, *lines, ""))


def figures(speed: Speed | None) -> str:
    if speed is None:
        return ""
    low, high = speed.quartiles
    return f"{speed.ratio:5.3f} ({low:5.3f} to {high:5.3f}) {speed.cpu_ratio:5.3f}"


def record(rows: Sequence[Row], chosen: argparse.Namespace) -> dict[str, object]:
    """What the JSON file holds."""
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "rounds": chosen.rounds,
        "compiled": chosen.compile,
        "rows": [asdict(row) for row in rows],
    }


if __name__ == "__main__":
    main()
