"""`search`: the best settings for a task, chosen on its validation images, as the papers do it.

Candidates train on "train" and are compared on "val"; test images are not looked at. With `final`, the best
one is trained again on both and measured once on test, with every seed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vitrim.checks import check_positive
from vitrim.methods.notation import parse_method
from vitrim.methods.tuners.noah import NOAH
from vitrim.network.method import Method
from vitrim.settings.epoch_choice import settled_select, tested_split
from vitrim.settings.protocols import find_protocol
from vitrim.settings.run_plan import DEFAULT_RECIPE, Asked, compose_asked, recipe_named, settle_plan
from vitrim.sweep.checking import open_for, without_weights
from vitrim.sweep.evolution import Evolution, check_cap
from vitrim.sweep.grid import make_job, trained_as, video_of
from vitrim.sweep.rows import Row
from vitrim.sweep.running import make_runs, refuse_failures
from vitrim.sweep.supernet import (
    Stages,
    check_measured_before,
    noah_in,
    rows_of,
    search_subnets,
    speak,
    write_chosen,
)
from vitrim.sweep.varied import Candidate, candidates
from vitrim.writing import write_whole

DECIDED = ("train_split", "test_split", "seed")


@dataclass(frozen=True)
class Searched:
    """What a search found."""

    best: Candidate
    rows: tuple[Row, ...]
    """one per candidate, in the order they were tried; accuracy is that on val"""
    final: tuple[Row, ...] = ()
    """one per seed, measured on test"""


def search(
    data: str,
    over: Mapping[str, Sequence[object]],
    out: str | Path,
    *,
    recipe: str | None = None,
    methods: Sequence[Method | str] | None = None,
    training: Mapping[str, object] | None = None,
    model: str | None = None,
    pretrained: bool | None = None,
    weights: str | Path | None = None,
    image_size: int | tuple[int, int] | None = None,
    in_chans: int | None = None,
    patch_size: int | tuple[int, int] | None = None,
    video: str | None = None,
    root: str | Path | None = None,
    protocol: str | None = None,
    per_task: bool | None = None,
    final: bool = False,
    seeds: Sequence[int] = (42,),
    evolution: Evolution | None = None,
    supernet_epochs: int | None = None,
    parallel: int | None = None,
    on: str = "here",
    download: bool = False,
    cpu: bool = False,
    quiet: bool = False,
) -> Searched:
    """Try every combination of the values in `over` and choose the most accurate on val; of equals, the one
    with the smaller learning rate (VPT's rule), then the one that trains less, then the first.

    Args:
        over: settings of the methods or of training, with the values to try, such as {"scale": [0.1, 1],
            "lr": [1e-3]}; where several methods have a setting, {"LoRA.scale": [0.1, 1]}. Empty: what the
            protocol searches over.
        out: folder for the runs; the same call goes on with it after a stop.
        final: train the best one again on train and val together, and measure it on test.
        seeds: of the final runs; the search itself uses the first.
        evolution: how to search the subnets of a composition with NOAH, which is searched in place of `over`;
            not given: as NOAH's release.
        supernet_epochs: how long its supernet trains; not given: five times as long as the subnet found.
        recipe, methods, training, model, pretrained, weights, image_size, in_chans, patch_size, video, root,
            protocol, per_task: as for `train`.
        parallel: runs at the same time; not given: one per GPU, or one.
        on, download, cpu, quiet: as for `sweep`.

    Raises:
        ValueError: if a setting is unknown, or the data has no val split.
    """
    base = Asked(
        model=model, pretrained=pretrained, weights=weights, image_size=image_size, data=data, root=root,
        recipe=recipe, methods=methods, training=training, protocol=protocol, per_task=per_task,
        in_chans=in_chans, patch_size=patch_size, video=video,
    )  # fmt: skip
    noah = None if base.methods is None and recipe is None else noah_in(methods_of(base))
    if noah is None and (evolution is not None or supernet_epochs is not None):
        raise ValueError("an evolution is of NOAH's subnets; give --method NOAH, or leave its settings out")
    if supernet_epochs is not None:
        check_positive("search", "supernet_epochs", supernet_epochs)
    check_settings(base, over)
    check_data(base, download, final)
    if not seeds:
        raise ValueError("seeds must hold at least one whole number")
    how: dict[str, Any] = {"on": on, "workers": parallel, "cpu": cpu, "quiet": quiet}
    if noah is not None:
        if over:
            raise ValueError(f"NOAH is searched by evolution, not over {', '.join(over)}; leave over out")
        settings = evolution or Evolution()
        wanted, folder = list(seeds) if final else [], Path(out).resolve()
        return _search_subnets(base, noah, settings, folder, wanted, seeds[0], supernet_epochs, how)
    found = candidates(methods_of(base), over or searched_by_protocol(base))
    folder = Path(out).resolve()
    apart = {"train_split": "train", "test_split": "val", "seed": seeds[0]}
    jobs = [make_job(each.name, ask(base, each, apart), folder / "search", cpu) for each in found]
    rows = make_runs(jobs, folder / "search", **how)
    if not any(row["status"] == "finished" for row in rows):
        refuse_failures(rows, folder / "search")
    best = choose(found, rows, [settle_plan(job.asked).training.lr for job in jobs])
    write_whole(folder / "chosen.json", (json.dumps(chosen_record(best, rows), indent=1) + "\n").encode())
    if not final:
        return Searched(best, tuple(rows))
    whole = [ask(base, best, {"train_split": "trainval", "seed": seed}) for seed in seeds]
    made = [make_job(best.name, asked, folder / "final", cpu) for asked in whole]
    last = make_runs(made, folder / "final", **how)
    refuse_failures(last, folder / "final")
    return Searched(best, tuple(rows), tuple(last))


def _search_subnets(
    base: Asked, noah: NOAH, settings: Evolution, folder: Path, seeds: list[int], seed: int,
    supernet_epochs: int | None, how: dict[str, Any],
) -> Searched:  # fmt: skip
    """Supernet, evolution, and the subnet trained anew with every one of `seeds`."""
    say = speak(how["quiet"])
    others = tuple(method for method in methods_of(base) if method != noah)
    stages = Stages(base, noah, others)
    images = len(open_for(settle_plan(base), False).split("trainval"))
    first = stages.supernet(seed, supernet_epochs, images)
    job = make_job("supernet", first, folder / "search", how["cpu"])
    width, blocks = backbone_size(first)
    check_cap(noah.space(blocks), settings, width)
    check_measured_before(job, folder)
    then = ", then trains the best anew" if seeds else ""
    say(f"NOAH: trains the supernet, then searches its subnets on val{then}")
    rows = make_runs([job], folder / "search", **how)
    refuse_failures(rows, folder / "search")
    ranked = search_subnets(job, folder, settings, seed, how["cpu"], say)
    record = write_chosen(folder, stages, ranked, width)
    best = Candidate({"subnet": str(ranked[0][0])}, tuple(map(parse_method, record["methods"])), {})
    rows = rows_of(ranked, width)
    say(f"the best of {len(ranked)} as an ordinary composition: " + ", ".join(record["methods"]))
    if not seeds:
        return Searched(best, tuple(rows))
    made = [
        make_job("subnet", stages.found(ranked[0][0], each), folder / "final", how["cpu"]) for each in seeds
    ]
    last = make_runs(made, folder / "final", **how)
    refuse_failures(last, folder / "final")
    return Searched(best, tuple(rows), tuple(last))


def backbone_size(asked: Asked) -> tuple[int, int]:
    """The width of the backbone's tokens, and its blocks."""
    from vitrim.backbones.shapes import shapes_only

    with shapes_only():
        model = compose_asked(without_weights(asked), num_classes=2)
    return model.width, model.depth


def methods_of(asked: Asked) -> list[Method]:
    """The methods to vary: those given, or the recipe's, with a protocol's values for the task."""
    return [parse_method(text) for text in settle_plan(asked).methods]


def searched_by_protocol(asked: Asked) -> Mapping[str, Sequence[object]]:
    """The settings that the published protocol chooses per task on validation images, and its values."""
    name = asked.protocol
    if name is None and asked.methods is None:
        name = recipe_named(asked.recipe or DEFAULT_RECIPE).protocol
    return {} if name is None else find_protocol(name).searched


def ask(base: Asked, candidate: Candidate, fixed: Mapping[str, object]) -> Asked:
    """What a candidate's run asks for: its methods, trained as the recipe says where nothing else is said."""
    usual: dict[str, Any] = {}
    if base.methods is None and base.video is None:
        base = replace(base, video=video_of(base.recipe or DEFAULT_RECIPE))
    if base.methods is None and base.protocol is None:
        recipe = base.recipe or DEFAULT_RECIPE
        usual = trained_as(recipe, {**base.training_changes(), **candidate.training, **fixed})
        base = replace(base, protocol=recipe_named(recipe).protocol, per_task=False)
    training = {**usual, **base.training_changes(), **candidate.training, **fixed}
    return replace(base, recipe=None, methods=candidate.methods or ("Linear()",), training=training)


def check_settings(asked: Asked, over: Mapping[str, Sequence[object]]) -> None:
    """Refuse settings that the search decides itself, or that are both given and searched over."""
    given = asked.training_changes()
    for name in DECIDED:
        if name in given or name in over:
            raise ValueError(f"a search decides {name} itself; leave it out (seeds gives the seeds)")
    for name in over:
        if name in given:
            raise ValueError(f"{name} is given and searched over as well; leave one of the two out")
    if settle_plan(asked).training.select == "best-on-test":
        raise ValueError("a search looks at no test images, so select cannot be best-on-test; leave it out")


def check_data(asked: Asked, download: bool, final: bool) -> None:
    """Refuse data on which nothing can be chosen, or on which the final runs could not be made."""
    plan = settle_plan(asked)
    source = open_for(plan, download)
    if "val" not in source.splits:
        raise ValueError(f"{plan.data} has no val split to choose on; it has {', '.join(source.splits)}")
    if final:
        whole = plan.training.changed({"train_split": "trainval"})
        try:
            source.split("trainval")
            settled_select(source, whole)
            tested_split(source, whole)
        except ValueError as error:
            raise ValueError(f"the final runs would be refused: {error}") from None


def choose(found: Sequence[Candidate], rows: Sequence[Row], rates: Sequence[float]) -> Candidate:
    """The most accurate candidate that did not fail; of equals, the smaller learning rate, then fewer trained
    parameters.
    """
    finished = [index for index, row in enumerate(rows) if row["status"] == "finished"]

    def worth(index: int) -> tuple[float, float, float]:
        return -float(rows[index]["accuracy"]), rates[index], float(rows[index]["trained"])

    return found[min(finished, key=worth)]


def chosen_record(best: Candidate, rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "format": 1,
        "chosen": dict(best.values),
        "methods": [repr(method) for method in best.methods],
        "tried": {row["recipe"]: row["accuracy"] for row in rows},
        "split": "val",
    }


def say(found: Searched) -> None:
    """Print what was tried, what is best, and how the best does on test."""
    from rich.console import Console
    from rich.table import Table

    table = Table("tried", "val", box=None, pad_edge=False)
    for row in found.rows:
        mark = "  chosen" if row["recipe"] in (found.best.name, found.best.values.get("subnet")) else ""
        value = (
            f"{100 * row['accuracy']:.2f} %" if row["accuracy"] is not None else f"failed: {row['failure']}"
        )
        table.add_row(row["recipe"], value + mark)
    Console(highlight=False, markup=False).print(table)
    for row in found.final:
        sys.stdout.write(
            f"{found.best.name}, trained on train and val, seed {row['seed']}: "
            f"{100 * row['accuracy']:.2f} % of {row['split']}\n"
        )
