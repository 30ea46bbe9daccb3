"""vitrim search"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitrim.cli.verbs.shared import (
    composition_options,
    data_options,
    given_methods,
    protocol_options,
    refuse_mistyped,
    training_changes,
    training_options,
)

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

DESCRIPTION = """
Find the best values of a few settings for a task. Every combination trains on the train images and is
measured on the val images; test images are not looked at. With --final the best one is trained again on both
and measured once on test. After a stop the same command goes on.
"""

EXAMPLES = """
vitrim search --recipe adaptformer --data vtab:eurosat --root /data --over scale=0.01,0.1,1 --out runs/scale
vitrim search --method "LoRA(rank=8)" --over rank=2,4,8 --over lr=1e-4,1e-3 --epochs 20 --out runs/rank
vitrim search --method NOAH --data folder:flowers --generations 10 --final --out runs/noah
vitrim search --recipe gps --over lr=1e-4,1e-3 --final --seeds "[0, 1, 2]" --out runs/gps
"""


def options(parser: ArgumentParser) -> None:
    composition_options(parser)
    data_options(parser)
    protocol_options(parser)
    group = parser.add_argument_group("the search")
    group.add_argument(
        "--over",
        action="append",
        type=_over_text,
        metavar="NAME=VALUES",
        help="a setting of a method or of training, and its values with commas between; may be repeated; "
        "not given: what the protocol searches over",
    )
    group.add_argument("--out", type=str | None, metavar="FOLDER", help="folder for the runs")
    group.add_argument(
        "--final", action="store_true", help="train the best again on train and val, and measure it on test"
    )
    group.add_argument(
        "--seeds", type=list[int], default=[42], metavar="LIST", help="of the final runs, such as [0, 1, 2]"
    )
    group.add_argument(
        "--parallel",
        type=int | None,
        metavar="N",
        help="runs at the same time; not given: one per GPU, or one",
    )
    evolution_options(parser)
    group.add_argument("--on", type=str, default="here", metavar="{here,slurm}", help="where to run")
    group.add_argument("--cpu", action="store_true", help="stay on the CPU where there are GPUs")
    group.add_argument("--quiet", action="store_true", help="print the result alone")
    training_options(parser)


def evolution_options(parser: ArgumentParser) -> None:
    """Of the search over NOAH's subnets."""
    group = parser.add_argument_group("the evolution of NOAH's subnets (--method NOAH, in place of --over)")
    group.add_argument(
        "--supernet_epochs", type=int | None, metavar="N",
        help="how long the supernet trains; not given: five times as long as the subnet that is found",
    )  # fmt: skip
    counts = {
        "population": "subnets in a generation (usually 50)",
        "generations": "how many (usually 15)",
        "parents": "the best so far, which the next generation comes from (usually 10)",
    }
    for name, means in counts.items():
        group.add_argument(f"--{name}", type=int | None, metavar="N", help=means)
    chances = {
        "mutation": "of a block's width to be drawn anew (usually 0.2)",
        "depth_mutation": "of a tuner's depth to be drawn anew (usually 0.4)",
    }
    for name, means in chances.items():
        group.add_argument(f"--{name}", type=float | None, metavar="CHANCE", help=means)
    group.add_argument(
        "--most_parameters", type=int | None, metavar="N",
        help="of a subnet, the classifier left out; not given: no cap",
    )  # fmt: skip


EVOLUTION = ("population", "generations", "parents", "mutation", "depth_mutation", "most_parameters")


def noah_named(methods: list[str] | None) -> list[str] | None:
    """The method however its name is written, as papers and users do."""
    return methods and ["NOAH()" if text.strip().lower() == "noah" else text for text in methods]


def _over_text(value: str | list[str]) -> str | list[str]:
    # On the command line each text comes alone; a configuration file gives the whole list.
    return [str(text) for text in value] if isinstance(value, list) else str(value)


def run(chosen: Namespace) -> None:
    refuse_mistyped(chosen.data, chosen.recipe)
    from vitrim.settings.run_plan import DEFAULT_DATA
    from vitrim.sweep.evolution import Evolution
    from vitrim.sweep.search import say, search
    from vitrim.sweep.varied import parse_over

    if chosen.out is None:
        raise ValueError("where shall the runs of the search go? give --out FOLDER")
    texts = [chosen.over] if isinstance(chosen.over, str) else chosen.over or []
    over: dict[str, list[object]] = {}
    for name, values in map(parse_over, texts):
        over[name] = [*over.get(name, []), *values]
    asked = {name: chosen[name] for name in EVOLUTION if chosen[name] is not None}
    found = search(
        chosen.data or DEFAULT_DATA, over, chosen.out, recipe=chosen.recipe,
        methods=noah_named(given_methods(chosen)), training=training_changes(chosen), model=chosen.model,
        pretrained=True if chosen.pretrained else None, weights=chosen.weights, image_size=chosen.image_size,
        in_chans=chosen.in_chans, patch_size=chosen.patch_size, video=chosen.video, root=chosen.root,
        protocol=chosen.protocol, per_task=chosen.per_task, final=chosen.final,
        seeds=chosen.seeds, evolution=Evolution(**asked) if asked else None,
        supernet_epochs=chosen.supernet_epochs, parallel=chosen.parallel, on=chosen.on,
        download=chosen.download, cpu=chosen.cpu, quiet=chosen.quiet,
    )  # fmt: skip
    say(found)
