"""vitrim sweep"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

DESCRIPTION = """
Train a grid of recipes on several data sets with several seeds, as a YAML file says, and write one row per
run to a table. Finished runs are not made again and interrupted ones go on, so after Ctrl-C, a crash or a
failed run the same command continues.
"""

EXAMPLES = """
vitrim sweep first.yaml --root /data --out runs/first
vitrim sweep first.yaml --workers 4
vitrim sweep first.yaml --on slurm
vitrim table runs/first

first.yaml, for example:
  data: [vtab:eurosat, vtab:dsprites_loc]
  recipes:
    - linear
    - sparse-tuning
    - name: my own
      methods: ["LoRA(rank=4)", "EViT(keep=0.5)"]
      training: {lr: 2e-3}
  seeds: [0, 1, 2]
  training: {epochs: 20}
"""


def options(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the YAML file")
    parser.add_argument("--out", type=str | None, metavar="FOLDER", help="folder of the sweep")
    parser.add_argument("--root", type=str | None, metavar="PATH", help="where the files of the data are")
    parser.add_argument("--model", type=str | None, metavar="NAME_OR_FILE", help="the backbone")
    parser.add_argument(
        "--workers",
        type=int | None,
        metavar="N",
        help="runs at the same time; not given: one per GPU, or one",
    )
    parser.add_argument(
        "--on", type=str, default="here", metavar="{here,slurm}", help="this machine, or a Slurm cluster"
    )
    parser.add_argument(
        "--download", action="store_true", help="fetch data that is not there, by kinds that can"
    )
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU where there are GPUs")
    parser.add_argument("--quiet", action="store_true", help="print nothing")


def run(chosen: Namespace) -> None:
    from vitrim.sweep.running import sweep

    sweep(
        chosen.file, chosen.out, root=chosen.root, model=chosen.model, workers=chosen.workers, on=chosen.on,
        download=chosen.download,
        cpu=chosen.cpu, quiet=chosen.quiet,
    )  # fmt: skip
