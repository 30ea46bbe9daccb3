"""A search over NOAH's subnets: what its trainings ask for, what is kept, and going on after a stop."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

from vitrim import NOAH, EViT, LoRA, save, search
from vitrim.cli.verbs.search import noah_named
from vitrim.compose import compose
from vitrim.methods.tuners.subnet import Subnet
from vitrim.runs.folder import RunFolder
from vitrim.settings.run_plan import Asked, settle_plan
from vitrim.sweep.evaluated import Evaluated
from vitrim.sweep.evolution import Evolution
from vitrim.sweep.grid import Job
from vitrim.sweep.supernet import Stages

searching = sys.modules[search.__module__]
SMALL = Evolution(population=4, generations=2, parents=2)
ONE, OTHER = Subnet((1, 0), (5, 0), (1, 1)), Subnet((10, 5), (5, 0), (1, 1))


def test_the_two_trainings() -> None:
    noah = NOAH(dropout=0.1)
    stages = Stages(Asked(data="digits", training={"batch_size": 32}), noah, (EViT(),))
    first = settle_plan(stages.supernet(7, None, 1000))
    assert first.methods == (repr(noah), repr(EViT())) and first.protocol == "vtab/noah-supernet"
    asked = first.training
    assert (asked.train_split, asked.test_split, asked.seed, asked.batch_size) == ("train", "val", 7, 32)
    assert asked.epochs == 5 * 20 and asked.drop_path == 0.1  # 20 is what 1,000 images get
    found = stages.found(Subnet((1,) * 12, (5,) * 6 + (0,) * 6, (0,) * 12), 7)
    second = settle_plan(found)
    assert second.protocol == "vtab/noah" and second.training.train_split == "trainval"
    assert [text.partition("(")[0] for text in second.methods] == ["VPT", "LoRA", "EViT"]
    assert second.methods[1] == repr(
        LoRA(5, roles=("query", "key", "value"), shared=True, dropout=0.1, at=range(6))
    )


def test_a_published_protocol_keeps_both_lengths() -> None:
    stages = Stages(Asked(data="vtab:cifar", protocol="vtab/noah"), NOAH(), ())
    first, second = (settle_plan(each) for each in (stages.supernet(0, None, 1000), stages.found(ONE, 0)))
    assert (first.training.epochs, first.training.lr, first.training.normalise) == (500, 5e-4, "imagenet")
    assert (second.training.epochs, second.training.lr) == (100, 1e-3)
    assert settle_plan(stages.supernet(0, 9, 1000)).training.epochs == 9


def test_what_was_measured_is_read_back_and_a_cut_line_measured_again(tmp_path: Path) -> None:
    file = tmp_path / "evaluated.jsonl"
    known = Evaluated(file, "abc", 200)
    known.add(ONE, 0.5)
    known.add(OTHER, 0.75)
    content = file.read_bytes()
    assert Evaluated(file, "abc", 200).found == {ONE: 0.5, OTHER: 0.75}
    second = content.index(b"\n", content.index(b"\n") + 1) + 1
    for cut in range(second + 1, len(content)):
        file.write_bytes(content[:cut])
        again = Evaluated(file, "abc", 200)
        assert again.found == {ONE: 0.5}
        assert file.read_bytes() == content[:second]
    again.add(OTHER, 0.75)
    assert file.read_bytes() == content
    for other in (("abd", 200), ("abc", 100)):
        with pytest.raises(ValueError, match="another supernet or of other images"):
            Evaluated(file, *other)
    file.write_bytes(content.replace(b"0.5", b"5.0"))
    with pytest.raises(ValueError, match="line 2 of"):
        Evaluated(file, "abc", 200)


def few_pictures(folder: Path) -> Path:
    luck = numpy.random.default_rng(0)
    for split in ("train", "val", "test"):
        for name in ("one", "two"):
            (folder / split / name).mkdir(parents=True)
            for number in range(3):
                pixels = luck.integers(0, 256, (16, 16, 3), dtype=numpy.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


def trained(jobs: Sequence[Job], folder: Path, **how: Any) -> list[dict[str, Any]]:
    """In place of training: a run folder with an untrained model, the same every time."""
    import torch

    rows = []
    for job in jobs:
        plan = settle_plan(job.asked)
        if not (job.folder / "run.json").exists():
            torch.manual_seed(0)
            model = compose(plan.model, *plan.methods, num_classes=2)
            RunFolder.create(job.folder).write_record({"format": 1, "settings": plan.to_json()})
            save(model, job.folder / "model.safetensors")
        rows.append(
            {"recipe": job.name, "accuracy": 0.5, "status": "finished", "seed": job.seed, "split": "test",
             "trained": 1, "failure": None}
        )  # fmt: skip
    return rows


def test_killed_while_measuring_it_comes_to_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "make_runs", trained)

    pictures = few_pictures(tmp_path / "pictures")

    def run(out: Path) -> tuple[str, dict[str, Any]]:
        data, how = f"folder:{pictures}", {"evolution": SMALL, "final": True, "cpu": True, "quiet": True}
        found = search(data, {}, out, methods=["NOAH()"], **how)  # type: ignore[arg-type]
        assert len(found.final) == 1 and found.best.methods
        return (out / "evaluated.jsonl").read_text(), json.loads((out / "chosen.json").read_text())

    whole = run(tmp_path / "whole")
    assert whole[1]["tried"] == 8 and len(whole[0].splitlines()) == 9
    add = Evaluated.add

    def kill_at(limit: int) -> None:
        def stopping(self: Evaluated, subnet: Subnet, accuracy: float) -> None:
            if len(self.found) == limit:
                raise KeyboardInterrupt
            add(self, subnet, accuracy)

        monkeypatch.setattr(Evaluated, "add", stopping)

    kill_at(5)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    monkeypatch.setattr(Evaluated, "add", add)
    assert run(tmp_path / "killed")[1] == whole[1]
    assert (tmp_path / "killed" / "evaluated.jsonl").read_text() == whole[0]


def test_what_cannot_be_searched_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "make_runs", trained)
    one, other = (f"folder:{few_pictures(tmp_path / name)}" for name in ("one", "other"))
    out, how = tmp_path / "out", {"evolution": SMALL, "cpu": True, "quiet": True}
    search(one, {}, out, methods=["NOAH()"], **how)  # type: ignore[arg-type]
    before = (out / "evaluated.jsonl").read_bytes(), (out / "chosen.json").read_bytes()
    monkeypatch.setattr(searching, "make_runs", lambda *given, **how: pytest.fail("trained"))
    for data, seeds in ((other, (42,)), (one, (1,))):
        with pytest.raises(ValueError, match=r"holds subnets of another supernet than .* choose another out"):
            search(data, {}, out, methods=["NOAH()"], seeds=seeds, **how)  # type: ignore[arg-type]
    fresh = tmp_path / "fresh"
    for wrong, message in (
        ({"evolution": Evolution(most_parameters=10)}, "most_parameters=10 is below the smallest subnet's"),
        ({"supernet_epochs": 0}, "supernet_epochs must be a whole number of at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            search(one, {}, fresh, methods=["NOAH()"], **{**how, **wrong})  # type: ignore[arg-type]
    assert not fresh.exists()
    assert ((out / "evaluated.jsonl").read_bytes(), (out / "chosen.json").read_bytes()) == before


def test_names_as_they_are_written() -> None:
    assert noah_named(["noah", "EViT(keep=0.5)"]) == ["NOAH()", "EViT(keep=0.5)"]
    assert noah_named(None) is None


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="by evolution, not over rank"):
        search("digits", {"rank": [2]}, tmp_path, methods=["NOAH()"])
    with pytest.raises(ValueError, match="an evolution is of NOAH's subnets"):
        search("digits", {"rank": [2]}, tmp_path, methods=["LoRA()"], evolution=SMALL)
    with pytest.raises(ValueError, match="subnets of one NOAH"):
        search("digits", {}, tmp_path, methods=["NOAH()", "NOAH(widths=(5,))"])
