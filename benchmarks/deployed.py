"""What compositions take beside plain timm as they are deployed: eager, compiled, ONNX Runtime, int8.

    nice -n 10 python benchmarks/deployed.py --out deployed.jsonl            # measures, or goes on measuring
    python benchmarks/deployed.py --out deployed.jsonl --rounds 0            # prints the tables there are

For every backbone and batch size, everything takes turns on the same images in one process: plain timm in
every way, plain timm once more (how the two differ is noise), and every composition in every way, folded as
it is deployed. Weights are random. A line of the file is one round; a killed run loses at most one. Printed
are medians over rounds of ratios of times within a round, with quartiles, beside the ratio of
multiply-accumulates. With one thread they are ratios of processor time, which other work on the machine
touches least; --clock wall takes the clock.
"""

import argparse
import gc
import shlex
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from noted import note, noted

from vitrim import compose, costs, find_recipe, merge
from vitrim.measuring.bench import going_round
from vitrim.measuring.machine import machine, versions
from vitrim.network.model import StagedViT
from vitrim.speed.plain import plain_macs
from vitrim.speed.ways import WAYS, plain_backbone, prepared

COMPOSITIONS = ("sparse-tuning", "fpet-lora", "fpet-adaptformer", "ToMe(r=13)")
MODELS = ("vit_small_patch16_224", "vit_base_patch16_224")
DEPLOYED = ("eager", "compiled", "onnx", "int8")
PLAIN, AGAIN = "plain timm", "plain timm again"


def main(given: Sequence[str] | None = None) -> None:
    chosen = arguments(given)
    torch.set_num_threads(chosen.threads)
    torch.set_grad_enabled(False)
    for model in chosen.model:
        for batch in chosen.batch:
            missing = chosen.rounds - len(rounds_in(chosen.out, model, batch))
            if missing > 0:
                measure(model, batch, missing, chosen)
            print(table(rounds_in(chosen.out, model, batch), chosen.clock), flush=True)


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; files and graphs lie beside it")
    parser.add_argument("--model", nargs="+", default=MODELS, help="timm names (default: ViT-S/16, ViT-B/16)")
    parser.add_argument("--batch", nargs="+", type=int, default=(1, 8), help="batch sizes (default: 1 8)")
    parser.add_argument("--ways", nargs="+", default=DEPLOYED, choices=WAYS, help="default: all but bf16")
    parser.add_argument("--compositions", nargs="+", default=COMPOSITIONS, help="recipes, or methods as text")
    parser.add_argument("--threads", type=int, default=1, help="processor threads (default: 1)")
    parser.add_argument("--rounds", type=int, default=9, help="turns in all (default: 9)")
    parser.add_argument("--clock", choices=("cpu", "wall"), default="cpu", help="of tables (default: cpu)")
    return parser.parse_args(given)


def composed(model: str, text: str) -> StagedViT:
    methods = (text,) if "(" in text else find_recipe(text).methods
    return merge(compose(model, *methods)).eval().requires_grad_(False)


def measure(model: str, batch: int, rounds: int, chosen: argparse.Namespace) -> None:
    """Append rounds of one backbone and batch size to the file."""
    torch._dynamo.reset()
    calls: dict[str, Callable[[], object]] = {}
    macs: dict[str, float] = {}
    for name, way, call, share in candidates(model, batch, chosen):
        calls[f"{way}: {name}"], macs[name] = call, share
        print(f"ready: {model}, batch {batch}, {way}: {name}", flush=True)
    first = f"{chosen.ways[0]}: {PLAIN}"
    calls[f"{chosen.ways[0]}: {AGAIN}"], macs[AGAIN] = calls[first], 1.0
    about = {"model": model, "batch": batch, "macs": macs, "machine": machine(), "versions": versions()}
    about["command"] = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    for found in islice(going_round(calls, torch.device("cpu")), rounds):
        line = {**about, "date": datetime.now(UTC).isoformat(timespec="seconds"), "turns": found}
        note(chosen.out, line)
    del calls
    gc.collect()


def candidates(
    model: str, batch: int, chosen: argparse.Namespace
) -> Iterator[tuple[str, str, Callable[[], object], float]]:
    """Name, way, call and share of plain timm's multiply-accumulates."""
    folder = chosen.out.with_name(f"{chosen.out.stem}-files")
    folder.mkdir(exist_ok=True)
    bare = composed(model, "Linear()")
    images = torch.randn(batch, 3, *bare.preprocess.image_size, generator=torch.Generator().manual_seed(0))
    whole = plain_macs(bare)
    for number, name in enumerate((PLAIN, *chosen.compositions)):
        made = bare if name == PLAIN else composed(model, name)
        share = 1.0 if name == PLAIN else costs(made).macs / whole
        for way in chosen.ways:
            run = plain_backbone(made) if name == PLAIN else made
            called = f"{model}-{number}-{''.join(filter(str.isalnum, name))}"
            ready = prepared(way, run, folder, called, torch.device("cpu"))
            yield name, way, partial(ready, images), share


def rounds_in(path: Path, model: str, batch: int) -> list[dict[str, Any]]:
    """The rounds of one backbone and batch size."""
    return [row for row in noted(path) if (row["model"], row["batch"]) == (model, batch)]


def table(rounds: Sequence[dict[str, Any]], clock: str) -> str:
    """Ratios to plain timm: in the same way, eager and compiled."""
    if not rounds:
        return "nothing measured yet"
    head = rounds[-1]
    lines = [
        f"{head['model']}, batch {head['batch']}, {head['machine']['threads']} threads, {len(rounds)} rounds",
        f"{'':18} {'':17} {'MACs':>5}  {'plain in the same way = 1':26} {'plain eager = 1':22} "
        f"{'plain compiled = 1':22} {'ms':>7}",
    ]
    for key in head["turns"]:
        way, name = key.split(": ")
        against = [ratio(rounds, key, f"{base}: {PLAIN}", clock) for base in (way, "eager", "compiled")]
        milliseconds = statistics.median(1000 * row["turns"][key][clock == "cpu"] for row in rounds)
        lines.append(
            f"{name:18} {WAYS[way].words:17} {head['macs'][name]:5.3f}  {against[0]:26} {against[1]:22} "
            f"{against[2]:22} {milliseconds:7.1f}"
        )
    return "\n".join((*lines, ""))


def ratio(rounds: Sequence[dict[str, Any]], key: str, base: str, clock: str) -> str:
    at = int(clock == "cpu")
    ratios = [row["turns"][key][at] / row["turns"][base][at] for row in rounds if base in row["turns"]]
    if len(ratios) < 3:
        return "-"
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
