"""What training adds to cross-entropy: a teacher, and DyT's complete model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import colour_folder, same, small_run, weights
from torch import Tensor
from torch.nn import functional as F

from vitrim import DynamicViT, DyT, EViT, LoRA, compose, save
from vitrim.cli.main import main
from vitrim.data import open_data
from vitrim.data.transforms import eval_transform
from vitrim.methods.reducers.dynamicvit import class_divergence
from vitrim.network.model import StagedViT
from vitrim.runs.folder import RunFolder
from vitrim.runs.opening import open_model
from vitrim.settings.training import Training
from vitrim.training.loop import Run, train
from vitrim.training.losses import WithLoss
from vitrim.training.teacher import introduce, open_teacher

STUDENT = ("LoRA(rank=2, dropout=0.2)", "EViT(keep=0.7, at=(1, 2))")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return colour_folder(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, data: str) -> Path:
    """A run without reduction, smoothed so that its probabilities say more than the labels do."""
    out = tmp_path_factory.mktemp("runs") / "teacher"
    return named_run(out, data, methods=["LoRA(rank=2)"], label_smoothing=0.4).folder


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, data: str) -> Run:
    return named_run(tmp_path_factory.mktemp("runs") / "student", data)


def named_run(out: Path, data: str, methods: Sequence[str] = STUDENT, size: int = 48, **training: Any) -> Run:
    """A run on a backbone that its folder can name, as a teacher's must."""
    resume = training.pop("resume", False)
    settings = {"epochs": 4, "batch_size": 8, "lr": 1e-2, "augment": "none", **training}
    return train(
        "test_vit", data, methods=methods, out=out, training=settings, image_size=size,
        resume=resume, cpu=True, quiet=True,
    )  # fmt: skip


def divergence(model: StagedViT, teacher: Path, data: str) -> float:
    images = open_data(data).split("test").with_transform(eval_transform(model.preprocess))
    batch = torch.stack([image for image, _ in images])
    with torch.no_grad():
        return class_divergence(model(batch), open_model(teacher)(batch)).item()


def test_a_teacher_draws_the_student_to_its_probabilities(
    tmp_path: Path, data: str, teacher: Path, student: Run
) -> None:
    taught = named_run(tmp_path / "run", data, teacher=str(teacher), distil=2.0)
    assert divergence(taught.model, teacher, data) < divergence(student.model, teacher, data) / 2
    assert taught.record["teacher"] == {"path": str(teacher), "compared": ["classes"]}
    assert student.record["teacher"] is None
    assert set(weights(taught.folder)) == set(weights(student.folder))  # the teacher is not saved


def test_a_weight_of_zero_is_no_teacher(tmp_path: Path, data: str, teacher: Path, student: Run) -> None:
    untaught = named_run(tmp_path / "run", data, teacher=str(teacher), distil=0)
    assert same(weights(untaught.folder), weights(student.folder))


def test_a_stopped_run_with_a_teacher_ends_like_a_whole_one(
    tmp_path: Path, data: str, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = named_run(tmp_path / "whole", data, teacher=str(teacher), epochs=2)
    rate = Training.learning_rate

    def stop(self: Training, progress: float) -> float:
        if progress > 1.5:
            raise KeyboardInterrupt
        return rate(self, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "learning_rate", stop)
        patch.chdir(teacher.parent)  # a relative path must be found from elsewhere
        with pytest.raises(KeyboardInterrupt):
            named_run(tmp_path / "run", data, teacher=teacher.name, epochs=2)
    train(out=tmp_path / "run", resume=True, cpu=True, quiet=True)
    assert same(weights(tmp_path / "run"), weights(whole.folder))
    with pytest.raises(ValueError, match=r"started with distil=0.5, so it cannot be resumed with 0.7"):
        train(out=tmp_path / "run", resume=True, training={"distil": 0.7}, cpu=True, quiet=True)


def test_teachers_that_cannot_teach_are_refused_before_anything_is_written(
    tmp_path: Path, data: str, teacher: Path
) -> None:
    renamed = colour_folder(tmp_path / "colours", per_class=16)
    (tmp_path / "colours" / "blue").rename(tmp_path / "colours" / "azure")
    out = tmp_path / "run"
    path = str(teacher)
    with pytest.raises(ValueError, match=r"the teacher '.*' tells 3 classes apart, but digits has 10"):
        named_run(out, "digits", teacher=path)
    with pytest.raises(ValueError, match=r"the teacher '.*' knows the class 'blue' where .* has 'azure'"):
        named_run(out, renamed, teacher=path)
    with pytest.raises(ValueError, match=r"reads images of .* \(48, 48\), but the model to train \(64, 64\)"):
        named_run(out, data, size=64, teacher=path)
    with pytest.raises(FileNotFoundError, match=r"there is no teacher '.*nowhere'; give the folder of"):
        named_run(out, data, teacher=tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"there is none; give teacher=RUN as well, or leave distil out"):
        named_run(out, data, distil=0.7)
    with pytest.raises(ValueError, match=r"distil must be a number at least 0, got -1"):
        named_run(out, data, teacher=path, distil=-1)
    with pytest.raises(ValueError, match=r"teacher must be the path of a run or a saved model, got ''"):
        named_run(out, data, teacher="")
    assert not out.exists()


def test_a_teacher_of_other_colours_or_without_a_model_is_refused(tmp_path: Path, data: str) -> None:
    backbone = {"num_classes": 3, "image_size": 48}
    source, student = open_data(data), compose("test_vit", LoRA(rank=2), **backbone)
    other = compose("test_vit", LoRA(rank=2), **backbone)
    save(other, tmp_path / "model.safetensors")
    introduce(asked(tmp_path / "model.safetensors"), student, source)  # without names, the number decides
    found = asked(tmp_path / "model.safetensors")
    fitting = found.model.preprocess
    for name, words in (("mean", r"pixels of mean \(0.4,"), ("std", "pixels of standard deviation")):
        found.model.preprocess = replace(fitting, **{name: (0.4, 0.4, 0.4)})
        with pytest.raises(ValueError, match=words):
            introduce(found, student, source)
    (tmp_path / "unfinished").mkdir()
    RunFolder(tmp_path / "unfinished").write_record({"status": "running"})
    with pytest.raises(FileNotFoundError, match=r"unfinished has no model yet"):
        asked(tmp_path / "unfinished")


def asked(path: Path, **settings: Any) -> Any:
    found = open_teacher(Training(teacher=str(path), **settings))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("own", "its", "patches"),
    [
        ((DynamicViT(at=(2, 4)),), (LoRA(rank=2),), True),
        ((DynamicViT(at=(2, 4)),), (EViT(0.7, (3,)),), False),  # a teacher that drops patches
        ((EViT(0.7, (2,)), DynamicViT(at=(4,))), (LoRA(rank=2),), False),  # a student that moves them
        ((EViT(0.7, (2,)),), (LoRA(rank=2),), False),
    ],
)
def test_patches_are_compared_where_both_have_the_same(
    tmp_path: Path, data: str, own: tuple[Any, ...], its: tuple[Any, ...], patches: bool
) -> None:
    backbone = {"num_classes": 3, "image_size": 48}
    save(compose("test_vit", *its, **backbone), tmp_path / "model.safetensors")
    student = compose("test_vit", *own, **backbone)
    wake_head(student)
    guide = introduce(asked(tmp_path / "model.safetensors", distil=0.25), student, open_data(data))
    assert guide.patches is patches

    images, labels = batch()
    learner = WithLoss(student, Training(), guide).train()
    assert not guide.model.training
    torch.manual_seed(0)
    loss = learner(images, labels)
    torch.manual_seed(0)
    logits, state = student.run(images)
    answers, seen = guide.model.run(images)
    expected = F.cross_entropy(logits, labels) + 0.25 * F.kl_div(
        logits.log_softmax(-1), answers.softmax(-1), reduction="batchmean"
    )
    if state.penalty is not None:
        expected = expected + state.penalty
    if patches:
        kept = state.keep > 0.5
        ours, theirs = student.vit.norm(state.tokens)[:, 1:], guide.model.vit.norm(seen.tokens)[:, 1:]
        expected = expected + 0.25 * ((ours - theirs) ** 2)[kept].mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(parameter.grad is not None for parameter in student.trained().values())
    assert all(parameter.grad is None for parameter in guide.model.parameters())


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, 3, 48, 48, generator=generator), torch.tensor([0, 1, 2, 1])


def wake_head(model: StagedViT) -> None:
    """Answers that differ, so that gradients reach everything below the head."""
    with torch.no_grad():
        model.vit.head.weight.normal_(std=0.5, generator=torch.Generator().manual_seed(2))


def test_dyt_trains_the_complete_model_too() -> None:
    images, labels = batch()
    losses = {}
    for complete in (0.0, 1.0, 0.5):
        torch.manual_seed(3)  # the same model each time
        model = compose("test_vit", DyT(width=4, complete=complete), num_classes=3, image_size=48)
        wake_head(model)
        torch.manual_seed(0)
        learner = WithLoss(model, Training(label_smoothing=0.1)).train()
        losses[complete] = learner(images, labels)
        losses[complete].backward()
        assert all(stage.dispatch.router.weight.grad.abs().sum() > 0 for stage in model.stages)
    torch.manual_seed(0)
    logits, penalty = model.forward_with_penalty(images)
    whole, _ = model.forward_with_penalty(images, complete=True)
    own = F.cross_entropy(logits, labels, label_smoothing=0.1) + penalty
    torch.testing.assert_close(losses[0.0], own)
    added = F.cross_entropy(whole, labels, label_smoothing=0.1) + class_divergence(logits, whole)
    torch.testing.assert_close(losses[1.0], own + added)
    torch.testing.assert_close(losses[0.5], own + added / 2)


def test_a_run_with_dyt_has_its_complete_model_learn(tmp_path: Path, data: str) -> None:
    found = {}
    for text in ("DyT(width=4)", "DyT(width=4, complete=0)"):
        run = small_run(tmp_path / text, data, methods=[text], epochs=2)
        found[text] = RunFolder(run.folder).history()[0]["train_loss"]
    assert found["DyT(width=4)"] > 1.5 * found["DyT(width=4, complete=0)"]  # two cross-entropies
    with pytest.raises(ValueError, match="complete must be 0 or above"):
        DyT(complete=-1.0)


def test_the_command_line_teaches(
    tmp_path: Path, data: str, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model=test_vit", "--image_size=48", f"--data={data}", "--method=LoRA(rank=2)", "--cpu"]
    options += ["--epochs=1", "--batch_size=8", f"--teacher={teacher}", "--distil=0.3"]
    assert main(["train", *options, f"--out={tmp_path / 'run'}"]) == 0
    assert f"teacher   {teacher}, compared: classes" in capsys.readouterr().out
    assert RunFolder(tmp_path / "run").record()["settings"]["training"]["distil"] == 0.3
