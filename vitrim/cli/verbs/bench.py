"""vitrim bench"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitrim.cli.verbs.shared import composition_options, given_methods

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from vitrim.network.model import StagedViT

DESCRIPTION = """
Measure speed side by side with the plain backbone: both take turns on the same images, so the ratio holds
even on a busy machine. Give a trained run, or a composition that need not be trained.
"""

EXAMPLES = """
vitrim bench runs/flowers
vitrim bench --model vit_small_patch16_224 --method "EViT(keep=0.7, at=(3, 6, 9))" --batch_size 1
"""


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "run", nargs="?", type=str | None, metavar="RUN", help="a run folder or a model.safetensors file"
    )
    composition_options(parser)
    parser.add_argument("--batch_size", type=int, default=8, metavar="N", help="images at a time (usually 8)")
    parser.add_argument(
        "--rounds", type=int, default=9, metavar="N", help="turns that each model takes (usually 9)"
    )
    parser.add_argument(
        "--threads", type=int | None, metavar="N", help="processor threads; not given: torch's choice"
    )
    parser.add_argument(
        "--device", type=str | None, help="cpu or cuda; not given: the GPU where there is one"
    )


def run(chosen: Namespace) -> None:
    import torch
    from rich.console import Console
    from rich.table import Table

    from vitrim.measuring.bench import bench

    if chosen.threads is not None:
        if chosen.threads < 1:
            raise ValueError(f"--threads must be at least 1, got {chosen.threads}")
        torch.set_num_threads(chosen.threads)
    model = _model(chosen)
    table = Table(
        "model", "time, plain = 1", "quartiles", "processor time", "images/s", box=None, pad_edge=False
    )
    for speed in bench(model, chosen.batch_size, chosen.rounds, chosen.device):
        low, high = speed.quartiles
        name = (
            {"as trained": "with methods"}.get(speed.name, speed.name) if chosen.run is None else speed.name
        )
        row = (name, f"{speed.ratio:.3f}", f"{low:.3f} - {high:.3f}", f"{speed.cpu_ratio:.3f}")
        table.add_row(*row, f"{speed.images_per_second:,.1f}")
    Console().print(table)


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
    )
    return compose_asked(asked)
