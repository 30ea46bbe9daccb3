"""`search` over NOAH's subnets: train the supernet, find its best subnet on val by evolution, say it as a
composition, and train that anew.

    OUT/search/runs/...     the supernet, an ordinary run on the train images
    OUT/evaluated.jsonl     every subnet measured on val, written as soon as it is
    OUT/chosen.json         the best one, as methods
    OUT/final/runs/...      the best one trained anew on train and val, measured on test

Whatever is stopped goes on with the same call: training from its checkpoint, evolution over what was
measured.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vitrim.methods.tuners.noah import NOAH, choice_of, choose_subnet
from vitrim.methods.tuners.subnet import Subnet
from vitrim.network.method import Method
from vitrim.settings.left_open import CAN_BE_OPEN
from vitrim.settings.recipes import RECIPES
from vitrim.settings.run_plan import Asked, settle_plan
from vitrim.sweep.evolution import Evolution, Measured, evolve
from vitrim.sweep.grid import Job, trained_as
from vitrim.sweep.rows import Row
from vitrim.writing import write_whole

if TYPE_CHECKING:
    from vitrim.runs.kinds import Metrics

SUPERNET, RETRAINED = "noah", "adapter"  # recipes that are trained as NOAH's two stages
MEASURED = "evaluated.jsonl"
LONGER = 5  # the supernet trains so much longer than the subnet, as in the release: 500 epochs and 100
OWN_LENGTH = (*CAN_BE_OPEN, "warmup_epochs", "warmup_lr", "cooldown_epochs", "min_lr", "patience", "select")


@dataclass(frozen=True)
class Stages:
    """What the two trainings ask for."""

    base: Asked
    noah: NOAH
    others: tuple[Method, ...]
    """methods beside NOAH, such as reducers: they stay"""

    def supernet(self, seed: int, epochs: int | None, images: int) -> Asked:
        """On the train images; longer than the subnet, and at half its published rate."""
        given = {name: v for name, v in self.base.training_changes().items() if name not in OWN_LENGTH}
        fixed = {"train_split": "train", "test_split": "val", "seed": seed}
        published = self.base.protocol is not None
        usual: dict[str, Any] = {} if published else trained_as(SUPERNET, {**given, **fixed})
        if epochs is None and not published:
            epochs = LONGER * self._epochs_of_subnet(images)
        length = {} if epochs is None else {"epochs": epochs}
        protocol = "vtab/noah-supernet"
        training = {**usual, **given, **fixed, **length}
        methods = (self.noah, *self.others)
        return replace(
            self.base, recipe=None, methods=methods, protocol=protocol, per_task=False, training=training
        )

    def found(self, subnet: Subnet, seed: int) -> Asked:
        """A subnet as an ordinary composition, on train and val."""
        methods = (*subnet.methods(self.noah.dropout), *self.others)
        fixed = {"train_split": "trainval", "seed": seed}
        given = {**self.base.training_changes(), **fixed}
        automatic = dict.fromkeys(self.base.automatic(), "auto")
        if self.base.protocol is not None:
            return replace(self.base, recipe=None, methods=methods, training={**given, **automatic})
        training = {**trained_as(RETRAINED, given), **given, **automatic}
        protocol = RECIPES[RETRAINED].protocol
        return replace(
            self.base, recipe=None, methods=methods, protocol=protocol, per_task=False, training=training
        )

    def _epochs_of_subnet(self, images: int) -> int:
        from vitrim.settings.left_open import choose_left_open

        any_subnet = self.noah.space(max(self.noah.depths or (4,))).smallest()  # the length is that of all
        plan = settle_plan(self.found(any_subnet, 0))
        return choose_left_open(plan, images)[0].training.epochs


def noah_in(methods: Sequence[Method]) -> NOAH | None:
    """The supernet of a composition."""
    found = [method for method in methods if isinstance(method, NOAH)]
    if len(found) > 1:
        raise ValueError("a search goes over the subnets of one NOAH; leave the other out")
    return found[0] if found else None


def check_measured_before(job: Job, folder: Path) -> None:
    """Refuse the folder of another search before its supernet is trained for nothing."""
    if (folder / MEASURED).exists() and not (job.folder / "model.safetensors").exists():
        raise ValueError(
            f"{folder / MEASURED} holds subnets of another supernet than {job.folder}, which is not trained; "
            "choose another out, or remove that file to measure anew"
        )


def search_subnets(
    job: Job, folder: Path, settings: Evolution, seed: int, cpu: bool, say: Callable[[str], None]
) -> list[Measured]:
    """The subnets of a trained supernet by their accuracy on val, the best first."""
    from vitrim.data import open_data
    from vitrim.data.transforms import eval_transform
    from vitrim.measuring.devices import start_accelerator
    from vitrim.runs.batches import ordered_batches
    from vitrim.runs.evaluate import measure
    from vitrim.runs.folder import stored_plan
    from vitrim.runs.opening import open_model
    from vitrim.sweep.evaluated import Evaluated

    plan = stored_plan(job.folder)
    model = open_model(job.folder)
    accelerator = start_accelerator(plan.training.precision, cpu=cpu)
    model.to(accelerator.device)
    images = open_data(plan.data, root=plan.root).split("val")
    tensors = images.with_transform(eval_transform(model.preprocess))
    batches = accelerator.prepare(ordered_batches(tensors, plan.training.batch_size, plan.training.workers))
    trained = hashlib.sha256((job.folder / "model.safetensors").read_bytes()).hexdigest()
    known = Evaluated(folder / MEASURED, trained, len(images))

    def fitness(subnet: Subnet) -> float:
        if subnet not in known:
            choose_subnet(model, subnet)
            known.add(subnet, cast("Metrics", measure(model, batches, accelerator)).top1)
        return known[subnet]

    def tell(generation: int, ranking: Sequence[Measured], new: int) -> None:
        best, accuracy = ranking[0]
        say(
            f"generation {generation + 1}/{settings.generations}: {new} new subnets, the best so far "
            f"{100 * accuracy:.2f} % of val with {best.parameters(model.width):,} parameters"
        )

    return evolve(choice_of(model).space, settings, model.width, fitness, seed, tell)


def write_chosen(folder: Path, stages: Stages, ranked: Sequence[Measured], width: int) -> dict[str, Any]:
    """The best subnet, as methods; what else was tried is in evaluated.jsonl."""
    best, accuracy = ranked[0]
    methods = [repr(method) for method in (*best.methods(stages.noah.dropout), *stages.others)]
    record = {
        "format": 1,
        "chosen": best.to_json(),
        "methods": methods,
        "parameters": best.parameters(width),
        "accuracy": accuracy,
        "tried": len(ranked),
        "split": "val",
    }
    write_whole(folder / "chosen.json", (json.dumps(record, indent=1) + "\n").encode())
    return record


def speak(quiet: bool) -> Callable[[str], None]:
    def say(line: str) -> None:
        if not quiet:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    return say


def rows_of(ranked: Sequence[Measured], width: int, shown: int = 3) -> list[Row]:
    """The best, as rows of a search."""
    return [
        {
            "recipe": str(subnet), "accuracy": accuracy, "status": "finished", "failure": None,
            "trained": subnet.parameters(width), "split": "val",
        }
        for subnet, accuracy in ranked[:shown]
    ]  # fmt: skip
