"""What it takes until a composition runs compiled, or is written as a file: seconds of the processor.

    nice -n 10 python benchmarks/first_call.py --out first_call.jsonl       # measures, or goes on measuring
    python benchmarks/first_call.py --out first_call.jsonl --table          # prints what there is

Every row is a process of its own with one thread and an empty cache of inductor, and counts the compilers it
starts. Ways: `compiled` is torch.compile of the whole model, `blocks` one compiled block with a free number
of tokens that all blocks share, `pt2` and `onnx` the two kinds of file. Of the compiled ways a forward pass
is timed after it, in turns with the eager model (median of fifteen turns, processor time).
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from noted import note, noted

COMPOSITIONS = ("plain timm", "Linear()", "EViT(keep=0.7, at=(3, 6, 9))", "ToMe(r=13)")
WAYS = ("compiled", "blocks", "pt2", "onnx")
HELD = ("tokens", "sizes", "position", "source", "trail", "keep")  # of a state between two compiled blocks
TURNS = 15


def main() -> None:
    chosen = arguments()
    if chosen.one is not None:
        print(json.dumps(measured(chosen.model, *chosen.one, chosen.batch)))
        return
    rows = noted(chosen.out)
    there = {(row["model"], row["composition"], row["way"]) for row in rows}
    for composition in () if chosen.table else chosen.compositions:
        for way in chosen.ways:
            if (chosen.model, composition, way) in there or (way == "blocks" and composition == "plain timm"):
                continue
            row = in_its_own_process(chosen, composition, way)
            note(chosen.out, row)
            rows.append(row)
            print(f"{composition}, {way}: {row['seconds']:.1f} s", flush=True)
    print("\n".join(table(rows)))


def arguments() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("first_call.jsonl"), help="JSON lines")
    parser.add_argument("--model", default="vit_tiny_patch16_224", help="a name of timm")
    parser.add_argument("--compositions", nargs="+", default=COMPOSITIONS, help="methods as text")
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--batch", type=int, default=2, help="images of a pass (default: 2)")
    parser.add_argument("--table", action="store_true", help="print what was measured so far")
    parser.add_argument("--one", nargs=2, metavar=("COMPOSITION", "WAY"), help="a single row, as JSON")
    return parser.parse_args()


def in_its_own_process(chosen: argparse.Namespace, composition: str, way: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as cache:
        one = dict.fromkeys(("TORCHINDUCTOR_COMPILE_THREADS", "OMP_NUM_THREADS"), "1")
        asked = ["--one", composition, way, "--model", chosen.model, "--batch", str(chosen.batch)]
        said = subprocess.run(
            [sys.executable, __file__, *asked], stdout=subprocess.PIPE, text=True, check=True,
            env={**os.environ, **one, "TORCHINDUCTOR_CACHE_DIR": cache},
        )  # fmt: skip
    row: dict[str, Any] = json.loads(said.stdout.splitlines()[-1])
    return row


def spent() -> tuple[float, float]:
    """Seconds of the processor of this process with those it started, and of the latter alone."""
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    started = others.ru_utime + others.ru_stime
    return own.ru_utime + own.ru_stime + started, started


def measured(name: str, composition: str, way: str, batch: int) -> dict[str, Any]:
    """One row: how long it took and, of a compiled model, how fast it runs then."""
    import torch

    from vitrim import compose, merge
    from vitrim.deploy.programs import program_of, write_onnx, write_pt2
    from vitrim.measuring.machine import machine, versions
    from vitrim.speed.ways import _leaving, plain_backbone

    torch.set_grad_enabled(False)
    bare = composition == "plain timm"
    model = merge(compose(name, "Linear()" if bare else composition)).eval().requires_grad_(False)
    run = plain_backbone(model) if bare else model
    images = torch.randn(batch, 3, *model.preprocess.image_size, generator=torch.Generator().manual_seed(0))
    before, calls = spent(), {}
    if way == "compiled":
        calls = {"eager": run, way: torch.compile(run, fullgraph=True, dynamic=False)}
        calls[way](images)
    elif way == "blocks":
        calls = {"eager": model, way: by_blocks(model)}
        calls[way](images)
    else:
        leaving, about = _leaving(run), {"num_classes": model.num_classes}
        with tempfile.TemporaryDirectory() as folder:
            write = write_onnx if way == "onnx" else write_pt2
            write(program_of(leaving, portable=False), about, Path(folder) / f"model.{way}")
    whole, started = (after - at for after, at in zip(spent(), before, strict=True))
    return {
        "model": name, "composition": composition, "way": way, "batch": batch, "seconds": whole,
        "of_compilers": started, "milliseconds": turns(calls, images), "machine": machine(),
        "versions": versions(), "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip


def by_blocks(model: Any) -> Callable[[Any], Any]:
    """The model with one compiled block, whatever number of tokens enters; its shapes are not written into
    the code, so that twelve blocks share a few graphs."""
    import torch

    def one(stage: Any, block: Any, places: Any, rows: int | None, rest: Any, *held: Any) -> tuple[Any, ...]:
        state = stage(block, rest.replaced(**dict(zip(HELD, held, strict=True))), places, rows)
        return tuple(getattr(state, name) for name in HELD)

    compiled = torch.compile(one, fullgraph=True)

    def run(images: Any) -> Any:
        state, places = model.begin(images)
        held = tuple(getattr(state, name) for name in HELD)
        rest = state.replaced(**dict.fromkeys(HELD))
        for index, (stage, block) in enumerate(zip(model.stages, model.vit.blocks, strict=True)):
            for tensor in held[:3]:
                torch._dynamo.maybe_mark_dynamic(tensor, 1)
            rows = model.rows_read() if index == model.depth - 1 else None
            held = compiled(stage, block, places[index], rows, rest, *held)
            rest = rest.replaced(moved=rest.moved or held[1].shape[1] != model.patch_count)
        return model.classify(rest.replaced(**dict(zip(HELD, held, strict=True))))

    return run


def turns(calls: dict[str, Any], images: Any) -> dict[str, float]:
    """Milliseconds of the processor for a pass, in turns."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(TURNS + 1):
        for name, call in calls.items():
            start = time.process_time()
            call(images)
            found[name].append(1000 * (time.process_time() - start))
    return {name: statistics.median(each[1:]) for name, each in found.items()}


def table(rows: list[dict[str, Any]]) -> list[str]:
    head = [
        "| model | composition | way | seconds | of compilers | a pass, eager = 1 |",
        "| --- | --- | --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        took = row["milliseconds"]
        cells = [row["model"], row["composition"], row["way"], f"{row['seconds']:.1f}"]
        cells.append(f"{row['of_compilers']:.0f}" if took else "")
        cells.append(f"{took[row['way']] / took['eager']:.2f}" if took else "")
        head.append(f"| {' | '.join(cells)} |")
    return head


if __name__ == "__main__":
    main()
