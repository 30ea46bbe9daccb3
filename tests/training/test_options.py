"""What single training settings do to a run."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import METHODS, colour_folder, same, small_run, toy_vit, weights

from vitrim import Full, LoRA, compose
from vitrim.cli.main import main
from vitrim.files.saving import load
from vitrim.network.model import StagedViT
from vitrim.runs.evaluate import evaluate
from vitrim.runs.folder import RunFolder
from vitrim.runs.opening import open_model
from vitrim.settings.learning_rate import rate_at
from vitrim.settings.training import Training
from vitrim.training.loop import train
from vitrim.training.losses import WithLoss
from vitrim.training.mixup import make_mixup
from vitrim.training.optimising import make_optimizer, set_rates

pytestmark = pytest.mark.usefixtures("short_measuring")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return colour_folder(tmp_path_factory.mktemp("colours"))


def model_with(*methods: Any) -> StagedViT:
    return compose(toy_vit(), *methods, num_classes=3)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, torch.optim.AdamW),
        ({"optimizer": "adam"}, torch.optim.Adam),
        ({"optimizer": "sgd"}, torch.optim.SGD),
    ],
)
def test_optimisers_are_torchs(settings: dict[str, Any], kind: type[torch.optim.Optimizer]) -> None:
    made = make_optimizer(model_with(LoRA(rank=2)), Training(momentum=0.5, **settings))
    assert type(made) is kind
    assert made.param_groups[0].get("momentum", 0.5) == 0.5


def rates(model: StagedViT, training: Training, progress: float = 50.0) -> dict[str, float]:
    """The learning rate of every trained parameter as a multiple of the curve's."""
    optimizer = make_optimizer(model, training)
    set_rates(optimizer, training, progress)
    names = {id(parameter): name for name, parameter in model.trained().items()}
    rate = training.learning_rate(progress)
    return {
        names[id(parameter)]: group["lr"] / rate
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def test_rates_by_part_and_by_layer() -> None:
    found = rates(model_with(Full()), Training(rates={"head": 10, "backbone": 0.5, "patch_embed": 0.1}))
    assert found["vit.head.weight"] == 10
    assert found["vit.blocks.0.attn.qkv.weight"] == 0.5
    assert found["vit.patch_embed.proj.bias"] == pytest.approx(0.05)
    decayed = rates(model_with(Full()), Training(layer_decay=0.5))
    assert decayed["vit.head.weight"] == 1
    assert decayed["vit.blocks.3.mlp.fc1.weight"] == 2 * decayed["vit.blocks.2.mlp.fc1.weight"]
    assert decayed["vit.blocks.3.mlp.fc1.weight"] < 1
    beside = rates(model_with("Adapter(width=2)"), Training(layer_decay=0.5))
    inner = {name.split(".")[1]: rate for name, rate in beside.items() if name.startswith("stages.")}
    assert inner["3"] == 2 * inner["2"] == 4 * inner["1"]


def test_the_backbone_can_rest_at_first() -> None:
    training = Training(frozen_epochs=5)
    assert rates(model_with(Full()), training, 4.9)["vit.blocks.0.attn.qkv.weight"] == 0
    assert rates(model_with(Full()), training, 4.9)["vit.head.weight"] == 1
    assert rates(model_with(Full()), training, 5.0)["vit.blocks.0.attn.qkv.weight"] == 1
    with pytest.raises(ValueError, match="none of them trains; leave it out"):
        make_optimizer(model_with(LoRA(rank=2)), training)
    with pytest.raises(ValueError, match="rates names 'hed', but nothing that trains is called so; use head"):
        make_optimizer(model_with(LoRA(rank=2)), Training(rates={"hed": 2}))


def test_vectors_can_be_spared_from_decay() -> None:
    optimizer = make_optimizer(model_with("BitFit()"), Training(decayed="matrices", weight_decay=0.3))
    decays = {p.ndim > 1: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {True: 0.3, False: 0.0}


def test_the_curve_scales_cools_down_and_steps_by_epoch() -> None:
    batch = {"lr_batch": 256, "batch_size": 128, "accumulate": 4}
    training = Training(lr=0.1, epochs=10, warmup_epochs=0, min_lr=0.01, **batch)
    assert training.learning_rate(0) == pytest.approx(0.2)
    assert rate_at(training.changed({"cooldown_epochs": 3}), 11.5) == 0.01
    by_epoch = training.changed({"lr_updates": "epoch"})
    assert by_epoch.learning_rate(3.9) == by_epoch.learning_rate(3.0) == training.learning_rate(3.0)


def test_mixed_labels_are_shares_and_smoothed_once() -> None:
    training = Training(mixup=0.8, cutmix=1.0, label_smoothing=0.3, batch_size=4)
    mixing = make_mixup(training, 3)
    assert mixing is not None
    images, labels = mixing(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 1]))
    torch.testing.assert_close(labels.sum(1), torch.ones(4))
    assert labels.min() >= 0.3 / 3 - 1e-6
    model = model_with(LoRA(rank=2)).train()
    loss = WithLoss(model, training)(images, labels)
    expected = -(model(images).log_softmax(1) * labels).sum(1).mean()
    torch.testing.assert_close(loss, expected)
    assert make_mixup(Training(), 3) is None


def test_a_run_with_everything_learns_resumes_and_reports(
    tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {
        "mixup": 0.2, "cutmix": 0.2, "label_smoothing": 0.1, "erasing": 0.3, "colour_jitter": 0.2, "ema": 0.8,
        "head": "batchnorm", "normalise": "half", "interpolation": "bilinear", "test_crop": 0.75,
        "augment": "shift", "deterministic": True, "optimizer": "sgd", "clip_grad": 1.0, "cooldown_epochs": 1,
        "lr": 0.1, "weight_decay": 1e-3, "decayed": "matrices", "drop_path": 0.1, "layer_decay": 0.9,
        "epochs": 3,
    }  # fmt: skip
    whole = small_run(tmp_path / "whole", data, **settings)
    assert len(RunFolder(whole.folder).history()) == 4
    assert not torch.are_deterministic_algorithms_enabled()
    rate = Training.learning_rate

    def stop(self: Training, progress: float) -> float:
        if progress > 2.5:
            raise KeyboardInterrupt
        return rate(self, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "learning_rate", stop)
        with pytest.raises(KeyboardInterrupt):
            small_run(tmp_path / "run", data, **settings)
    small_run(tmp_path / "run", data, resume=True, **settings)
    assert same(weights(tmp_path / "run"), weights(whole.folder))
    again = load(whole.folder / "model.safetensors", backbone=toy_vit())
    assert (again.preprocess.mean, again.preprocess.std) == ((0.5,) * 3, (0.5,) * 3)
    assert (again.preprocess.interpolation, again.preprocess.crop) == ("bilinear", 0.75)
    assert repr(again.methods[-1]) == "BatchNormHead()"
    assert evaluate(again, data, cpu=True) == whole.metrics


def test_the_running_mean_is_what_is_measured_and_kept(tmp_path: Path, data: str) -> None:
    settings = {"epochs": 2, "augment": "none", "select": "last", "schedule": "constant", "warmup_epochs": 0}
    steps = small_run(tmp_path / "steps", data, **settings)
    slow = small_run(tmp_path / "slow", data, ema=0.999, **settings)
    losses = [RunFolder(run.folder).history() for run in (steps, slow)]
    assert [row["train_loss"] for row in losses[0]] == [row["train_loss"] for row in losses[1]]
    assert losses[1][-1]["val_loss"] > losses[0][-1]["val_loss"]  # hardly away from the start
    state = RunFolder(slow.folder).last_checkpoint()
    assert state is not None
    kept, stepped = weights(slow.folder), weights(steps.folder)
    assert all(torch.equal(value, stepped[name]) for name, value in state["weights"].items())
    assert not any(torch.equal(value, kept[name]) for name, value in state["weights"].items())
    assert evaluate(slow.model, data, "val", cpu=True).loss == pytest.approx(losses[1][-1]["val_loss"])


def test_best_on_test_is_taken_by_name_only_and_marked(tmp_path: Path, data: str) -> None:
    finished = small_run(tmp_path / "run", data, select="best-on-test", lr=0.1, schedule="constant")
    rows = RunFolder(finished.folder).history()
    assert finished.record["results"]["mark"] == "best on test"
    assert finished.metrics.top1 == max(row["test_top1"] for row in rows)
    assert finished.record["results"]["epoch"] in [
        row["epoch"] for row in rows if row["test_top1"] == finished.metrics.top1
    ]
    other = small_run(tmp_path / "other", data, epochs=1)
    assert other.record["results"]["mark"] is None
    assert other.record["results"]["select"] == other.record["select"] == "val"
    assert not any("test_top1" in row for row in RunFolder(other.folder).history())
    both = small_run(tmp_path / "both", data, epochs=1, train_split="trainval")
    assert both.record["results"]["select"] == "last"


def test_training_stops_early_and_stays_stopped(tmp_path: Path, data: str) -> None:
    settings = {"patience": 2, "epochs": 30, "lr": 0.0, "min_lr": 0.0, "warmup_lr": 0.0}  # learns nothing
    for resume in (False, True):
        small_run(tmp_path / "run", data, methods=[], resume=resume, **settings)
        assert len(RunFolder(tmp_path / "run").history()) == 3


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"train_split": "trainval", "patience": 3}, "patience=3 needs validation images, .*; leave it out"),
        ({"select": "best-on-test", "test_split": "val"}, "watches the test images, but test_split is 'val'"),
        ({"augment": "rand", "policy": "rand-foo9"}, "timm cannot read policy 'rand-foo9'; write it like"),
        ({"rates": {"hed": 2.0}}, "nothing that trains is called so"),
        ({"frozen_epochs": 2}, "with these methods none of them trains"),
        (
            {"head": "batchnorm", "methods": ["BatchNormHead()"]},
            "give BatchNormHead or head=batchnorm, not both",
        ),
        (
            {"head": "batchnorm", "batch_size": 32, "drop_last": False},
            r"33 images in batches of 32 leave a batch of 1 for 1 processes; .* or drop_last=true",
        ),
        ({"train_split": "test"}, "measured on test images, on which it is trained"),
        ({"train_split": "trainval", "test_split": "val"}, "measured on val images, on which it is trained"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_written(
    tmp_path: Path, data: str, settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        small_run(tmp_path / "run", data, **settings)
    assert not (tmp_path / "run").exists()


def test_lost_and_damaged_checkpoints_are_a_sentence(tmp_path: Path, data: str) -> None:
    out = tmp_path / "run"
    whole = weights(small_run(out, data).folder)
    folder = RunFolder(out)
    newest = sorted(folder.checkpoints.glob("epoch-*.pt"))[-1]
    newest.write_bytes(newest.read_bytes()[:-200])
    with pytest.raises(
        ValueError, match=r"epoch-00004.pt is damaged; delete it to go on from the one before"
    ):
        small_run(out, data, resume=True)
    newest.unlink()
    small_run(out, data, resume=True)
    assert same(weights(out), whole)
    for best in folder.checkpoints.glob("best-*.pt"):
        best.unlink()
    with pytest.raises(FileNotFoundError, match=r"best-0000.*pt is missing; put it back"):
        small_run(out, data, resume=True)
    for file in folder.checkpoints.glob("*.pt"):
        file.unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no checkpoint, though 4 epochs were trained"):
        small_run(out, data, resume=True)
    assert len(folder.history()) == 4


def test_a_folder_left_before_the_record_was_written_can_be_used(tmp_path: Path, data: str) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert small_run(tmp_path / "run", data, epochs=1).record["status"] == "finished"


def test_trackers_hear_every_epoch(tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate import tracking

    heard: list[tuple[int | None, dict[str, Any]]] = []

    class Notebook(tracking.GeneralTracker):  # type: ignore[misc]
        name = "notebook"
        requires_logging_directory = True

        def __init__(self, run_name: str, logging_dir: str, **_: Any) -> None:
            super().__init__()
            self.place = logging_dir

        @property
        def tracker(self) -> None:
            return None

        def store_init_configuration(self, values: dict[str, Any]) -> None:
            (Path(self.place) / "settings.json").write_text(json.dumps(values))

        def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
            heard.append((step, values))

    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "notebook", Notebook)
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: ["notebook"])
    settings = {"epochs": 2, "batch_size": 8}
    train(
        toy_vit(), data, methods=METHODS, out=tmp_path / "run", training=settings, trackers=["notebook"],
        cpu=True, quiet=True,
    )  # fmt: skip
    assert [step for step, _ in heard] == [1, 2]
    assert heard[1][1]["train_loss"] == RunFolder(tmp_path / "run").history()[1]["train_loss"]
    told = json.loads((tmp_path / "run" / "trackers" / "settings.json").read_text())
    assert told["training.epochs"] == 2
    with pytest.raises(ValueError, match=r"no tracker 'tensorbord'; did you mean tensorboard"):
        train(toy_vit(), data, methods=METHODS, trackers=["tensorbord"])
    with pytest.raises(ValueError, match=r"'wandb' needs a package that is not installed; pip install wandb"):
        train(toy_vit(), data, methods=METHODS, trackers=["wandb"])


def test_a_batchnorm_head_is_saved_with_its_statistics(tmp_path: Path, data: str) -> None:
    run = train(
        "test_vit", data, methods=["LoRA(rank=2)"], image_size=48, out=tmp_path / "run", cpu=True, quiet=True,
        training={"epochs": 2, "batch_size": 8, "head": "batchnorm", "lr": 1e-2},
    )  # fmt: skip
    saved = weights(run.folder)
    assert {name for name in saved if "running" in name} != set()
    assert evaluate(open_model(run.folder), data, cpu=True, batch_size=8) == run.metrics
    plain = compose("test_vit", LoRA(rank=2), num_classes=3, image_size=48)
    assert run.record["costs"]["trained_parameters"] == sum(p.numel() for p in plain.trained().values())


def test_rates_come_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", '--rates={"head": 10, "hed": 2}', "--cpu"]) == 2
    assert "rates names 'hed', but nothing that trains is called so" in capsys.readouterr().err
    assert main(["train", "--rates=3"]) == 2
    assert "--rates takes names with their values, got '3'" in capsys.readouterr().err
    assert main(["train", "--normalise=foo"]) == 2
    assert (
        "--normalise takes one of checkpoint, imagenet, half, none, measured, given, got 'foo'"
        in capsys.readouterr().err
    )
    assert main(["train", "--rates.head=3", "--print_config"]) == 0
    assert "rates:\n  head: 3.0\n" in capsys.readouterr().out
