"""What runs that chose their weights say about their tasks: how the choices overlap, and what they go with.

    python benchmarks/real_data_selection.py RUN RUN ... --out FOLDER

Takes finished runs of FisherDelta, of several tasks or seeds, and prints two Markdown tables: for each
pair, the share of the smaller set of trained weights that is in the other too, with what drawing as many
weights per neuron at random would give (TR-PTS, Figure 7); and for each run the rank correlation, over
blocks, of the share of the highest scores with the likeness of the patch tokens that enter a block, which
TR-PTS assumes to be negative. With --out the figures are written there.
"""

import argparse
import datetime
import itertools
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitrim.compose import compose
from vitrim.data import DataSource, open_data
from vitrim.measuring.machine import machine
from vitrim.methods.selection.comparing import spearman
from vitrim.methods.selection.shares import chosen_shares
from vitrim.network.model import StagedViT
from vitrim.report.charts.selection import (
    block_distribution,
    overlap_map,
    overlaps,
    shares_and_redundancy,
    token_redundancy,
)
from vitrim.runs.folder import RunFolder
from vitrim.runs.opening import open_model


def main() -> None:
    """Print the tables, write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", help="folders of finished runs")
    parser.add_argument("--out", type=Path, help="folder for the figures")
    chosen = parser.parse_args()
    here = machine()
    print(f"{here['cpu']}, {here['threads']} of {here['cpus']} CPUs used; {datetime.date.today()}")
    print(f"`python {shlex.join(sys.argv)}`\n")
    records = {run: RunFolder.open(run).record() for run in chosen.runs}
    models = {title(record): open_model(run) for run, record in records.items()}
    print_overlaps(models)
    pictures = {"blocks": block_distribution(models), "overlap": overlap_map(models)}
    print("\n| run | Spearman correlation, before training | after |\n| --- | ---: | ---: |")
    for record in records.values():
        spec = record["data"]["spec"]
        source = open_data(spec, root=record["settings"]["root"])
        found = shares_and_redundancy(models[title(record)], source)
        if found is not None:
            name = title(record)
            pictures[f"redundancy-{name.replace(' ', '-')}"], correlation = found
            before = untrained_correlation(models[name], record, source)
            print(f"| {name} | {before:+.2f} | {correlation:+.2f} |", flush=True)
    if chosen.out is not None:
        for name, picture in pictures.items():
            if picture is not None:
                replace(picture, name=name).save(chosen.out)


def untrained_correlation(model: StagedViT, record: Mapping[str, Any], source: DataSource) -> float:
    """The same correlation with tokens of the backbone as it was when the weights were chosen."""
    settings = record["settings"]
    plain = compose(settings["model"], weights=settings["weights"], image_size=tuple(settings["image_size"]))
    return spearman(chosen_shares(model), token_redundancy(plain, source))


def title(record: Mapping[str, Any]) -> str:
    """What to call a run."""
    return f"{record['data']['spec'].partition(':')[2]} seed {record['settings']['training']['seed']}"


def print_overlaps(models: dict[str, StagedViT]) -> None:
    print("| tasks | weights in common | by chance | times chance |\n| --- | ---: | ---: | ---: |")
    found = overlaps(models)
    for one, other in itertools.combinations(models, 2):
        if (one, other) in found:
            share, chance = found[one, other]
            print(f"| {one}, {other} | {share:.3f} | {chance:.4f} | {share / chance:.1f} |")


if __name__ == "__main__":
    main()
