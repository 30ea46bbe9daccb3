"""Published protocols: what they hold, that a run follows one, that what differs is recorded and printed."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from small_runs import colour_folder

from vitrim.cli.main import main, read_options
from vitrim.cli.verbs.shared import training_changes
from vitrim.data.vtab_tasks import TASKS
from vitrim.methods.notation import METHODS, parse_method
from vitrim.report.page import write_report
from vitrim.runs.folder import RunFolder
from vitrim.settings.deviations import deviations, method_part, training_part
from vitrim.settings.protocols import PROTOCOLS, find_protocol, values_for
from vitrim.settings.protocols.describe import table
from vitrim.settings.recipes import RECIPES
from vitrim.settings.run_plan import Asked, settle_plan
from vitrim.settings.training import Training
from vitrim.sweep.grid import make_job

pytestmark = pytest.mark.usefixtures("short_measuring")

GUIDE = Path(__file__).parents[2] / "docs" / "training.md"


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_is_complete_and_its_values_fit(name: str) -> None:
    protocol = PROTOCOLS[name]
    assert protocol.follows
    assert protocol.reported in ("best-on-test", "val", "last")
    assert protocol.training.select is None  # ours, unless the user asks for the paper's by name
    known = {field.name for field in fields(Training)}
    assert set(protocol.unstated) <= known
    assert set(protocol.searched) <= known
    for values in protocol.per_task.values():
        protocol.training.changed(training_part(values))
        for setting, value in method_part(values).items():
            method, _, field = setting.partition(".")
            if method in METHODS:
                assert field in {found.name for found in fields(METHODS[method])}
                METHODS[method](**{field: value})


def test_tables_cover_all_tasks() -> None:
    for name, protocol in PROTOCOLS.items():
        if name.startswith("vtab/") and protocol.per_task and name != "vtab/vpt":
            assert set(protocol.per_task) == set(TASKS), name
    assert {name.partition("/")[0] for name in PROTOCOLS} == {
        "vtab", "fgvc", "fewshot", "full", "imagenet", "k400", "ssv2",
    }  # fmt: skip


def test_values_of_the_release_tables() -> None:
    """Cells copied by hand from the releases, one from each table."""
    cells = {
        ("vtab/convpass", "vtab:svhn"): {"Convpass.scale": 100.0, "Convpass.start": "xavier"},
        ("vtab/fact-tk", "vtab:oxford_pet"): {"FacT.rank": 16, "FacT.scale": 10.0},
        ("vtab/bi-lora", "vtab:kitti"): {"LoRA.scale": 10.0},
        ("vtab/ssf", "vtab:clevr-count-all"): {"lr": 2e-3, "weight_decay": 5e-2, "drop_path": 0.1},
        ("vtab/gps", "vtab:patch_camelyon"): {
            "lr": 0.004, "batch_size": 32, "drop_path": 0.0, "FisherDelta.connections": 2,
        },
        ("vtab/vpetl-adapter", "vtab:cifar100"): {
            "lr": 0.01, "weight_decay": 1.0, "augment": "none", "colour_jitter": 0.0,
        },
        ("vtab/vpetl-full", "vtab:kitti"): {"lr": 1e-2, "weight_decay": 1e-4},
        ("fgvc/gps", "fgvc:cars"): {
            "lr": 0.0005, "batch_size": 32, "drop_path": 0.0, "ema": 0.9998, "FisherDelta.connections": 15,
        },
        ("vtab/gps", "digits"): {},
        ("vtab/gps", "fgvc:cars"): {},
    }  # fmt: skip
    for (name, data), values in cells.items():
        assert values_for(find_protocol(name), data) == values, (name, data)


def test_effective_rates_are_those_of_the_papers() -> None:
    peaks = {
        name: PROTOCOLS[name].training.peak for name in ("full/dyt", "full/adaptformer", "imagenet/evit")
    }
    assert peaks == {"full/dyt": 4e-3, "full/adaptformer": 0.4, "imagenet/evit": 1e-3}


def test_a_named_protocol_is_taken_whole_with_the_values_of_the_task() -> None:
    plan = settle_plan(Asked(recipe="gps", protocol="vtab/gps", data="vtab:patch_camelyon"))
    assert (plan.training.lr, plan.training.train_split, plan.training.normalise) == (
        0.004,
        "trainval",
        "half",
    )
    assert parse_method(plan.methods[0]).connections == 2  # type: ignore[attr-defined]
    assert deviations(plan) == []
    general = settle_plan(
        Asked(recipe="gps", protocol="vtab/gps", data="vtab:patch_camelyon", per_task=False)
    )
    assert general.training.lr == 2e-3
    assert parse_method(general.methods[0]).connections == 1  # type: ignore[attr-defined]


def test_what_a_recipe_is_changed_to_comes_before_the_values_of_the_task() -> None:
    def scale_and_rank(recipe: str) -> tuple[float, int]:
        plan = settle_plan(Asked(recipe=recipe, protocol="vtab/fact-tk", data="vtab:clevr_count"))
        method: Any = parse_method(plan.methods[0])
        return method.scale, method.rank

    scale, rank = scale_and_rank("fact-tk")
    assert scale != RECIPES["fact-tk"].methods[0].scale  # type: ignore[attr-defined]  # the task's own
    assert scale_and_rank("fact-tk(scale=5.0)") == (5.0, rank)
    assert scale_and_rank("fact-tk(FacT(rank=3))") == (scale, 3)
    changed = settle_plan(
        Asked(recipe="fact-tk(scale=5.0)", protocol="vtab/fact-tk", data="vtab:clevr_count")
    )
    assert deviations(changed) == [{"setting": "FacT.scale", "protocol": scale, "yours": 5.0}]


def test_deviations_are_named() -> None:
    plan = settle_plan(
        Asked(
            methods=["FisherDelta(top=None, connections=1, score='gradient')"], protocol="vtab/gps",
            data="vtab:patch_camelyon", training={"lr": 0.1, "seed": 7, "workers": 0},
        )
    )  # fmt: skip
    assert deviations(plan) == [
        {"setting": "lr", "protocol": 0.004, "yours": 0.1},
        {"setting": "FisherDelta.connections", "protocol": 2, "yours": 1},
    ]


def test_a_recipe_alone_optimises_as_its_protocol_on_any_images() -> None:
    plan = settle_plan(Asked(recipe="gps", data="digits"))
    assert plan.protocol == "vtab/gps"
    assert (plan.training.optimizer, plan.training.lr) == ("adam", 2e-3)
    assert (plan.training.train_split, plan.training.normalise) == ("train", "checkpoint")
    assert {each["setting"] for each in deviations(plan)} == {"train_split", "normalise"}


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"no protocol 'vtab/gsp'; did you mean vtab/gps"):
        settle_plan(Asked(protocol="vtab/gsp"))
    with pytest.raises(ValueError, match="give protocol as well"):
        settle_plan(Asked(per_task=True))


def test_a_run_says_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = colour_folder(tmp_path / "colours"), tmp_path / "run"
    options = ["--model=test_vit", "--image_size=48", f"--data={data}", "--method=LoRA(rank=2)", "--cpu"]
    options += ["--protocol=vtab/shared", "--epochs=1", "--batch_size=8", f"--out={out}"]
    assert main(["train", *options]) == 0
    said = capsys.readouterr().out
    assert "protocol  vtab/shared: released code of Convpass" in said
    assert "differs   epochs 1 (protocol: 100), batch_size 8 (protocol: 64)" in said
    record = RunFolder(out).record()
    assert [each["setting"] for each in record["protocol"]["deviations"]] == ["epochs", "batch_size"]
    assert record["protocol"]["reported"] == "best-on-test"
    assert record["results"]["select"] == "last"  # trained on trainval: nothing to validate on
    assert record["preprocess"]["mean"] == [0.485, 0.456, 0.406]
    assert main(["train", "--resume", f"--out={out}", "--protocol=vtab/gps", "--cpu"]) == 2
    assert "started with protocol='vtab/shared'" in capsys.readouterr().err
    write_report([out])
    assert "different here: epochs 1 (protocol: 100)" in (out / "report.html").read_text()


def test_null_takes_back_what_a_protocol_sets() -> None:
    for given in (
        ["--warmup_epochs", "null", "--lr-batch=null"],
        ["--warmup_epochs=null", "--lr_batch", "null"],
    ):
        changes = training_changes(read_options("train", ["--protocol=vtab/vpt", *given]))
        assert changes == {"warmup_epochs": None, "lr_batch": None}
    plan = settle_plan(Asked(protocol="vtab/vpt", recipe="linear", data="digits", training=changes))
    assert (plan.training.lr_batch, plan.training.warmup) == (None, 10.0)
    job = make_job("row", Asked(recipe="linear", training={**changes, "seed": 1}), Path("/out"), cpu=True)
    again = training_changes(read_options("train", job.command(resume=False)[4:]))
    assert again == {**changes, "seed": 1}  # a sweep hands it on
    assert training_changes(read_options("train", ["--out", "null"])) == {}


def test_the_list_and_the_guide_show_every_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "protocols"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name}: " in shown for name in PROTOCOLS)
    assert table() in GUIDE.read_text()  # python -m vitrim.settings.protocols.describe


def test_the_guide_names_every_setting() -> None:
    text = GUIDE.read_text()
    assert [field.name for field in fields(Training) if f"`{field.name}`" not in text] == []
