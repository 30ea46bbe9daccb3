"""Training for many budgets, other budgets of one checkpoint, and calibration around training."""

import math

import pytest
import torch
from small_runs import colour_folder, same, small_run, weights
from small_tables import table_of_numbers
from toys import images, toy

import vitrim
from vitrim import DynamicViT, EViT, ToMe, compose, costs_on_images
from vitrim.network.budgeting import draw_budgets
from vitrim.network.placing import placed
from vitrim.settings.training import Training


def shares(model) -> list[float]:
    return [part.share for _, part in placed(model)]


def test_every_step_draws_its_share_and_draws_it_again() -> None:
    model = compose(toy("vit", depth=4), EViT(keep=0.7, at=(1, 2), train_keep=(0.4, 0.9)))
    drawn = []
    for epoch, step in [(0, 0), (0, 1), (1, 0), (0, 0)]:
        draw_budgets(model, 7, epoch, step)
        first, second = shares(model)
        assert first == second and 0.4 <= first <= 0.9
        drawn.append(first)
    assert drawn[0] == drawn[3] and len(set(drawn)) == 3
    batch = images(model)
    model.train()
    assert model.run(batch)[1].count < 64
    assert model.stages[1].reducer.kept(64) == math.ceil(drawn[0] * 64)
    assert model.eval().stages[1].reducer.kept(64) == 45  # evaluation keeps 0.7
    other = compose(toy("vit", depth=4), EViT(keep=0.7, at=(1, 2)))
    draw_budgets(other, 7, 0, 0)
    assert shares(other) == [0.7, 0.7]


def test_another_budget_is_the_composition_with_it(tmp_path) -> None:
    model = compose(
        "vitrim_tiny_patch8_96", EViT(keep=0.7, at=(2, 4), train_keep=(0.3, 1)), num_classes=3
    ).eval()
    batch = images(model, batch=3)
    model.set_budget(0.4)
    twin = compose("vitrim_tiny_patch8_96", EViT(keep=0.4, at=(2, 4)), num_classes=3).eval()
    twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(model(batch), twin(batch))
    vitrim.save(model, tmp_path / "model.safetensors")
    again = vitrim.load(tmp_path / "model.safetensors")
    assert again.methods == (EViT(keep=0.4, at=(2, 4), train_keep=(0.3, 1)),)
    with torch.no_grad():
        assert torch.equal(again(batch), twin(batch))


def test_predictors_take_other_budgets_too() -> None:
    model = compose(toy("vit", depth=4), DynamicViT(keep=0.8, at=(1, 2)))
    model.set_budget(0.5)
    assert model.run(images(model))[1].count == 16
    assert model.methods == (DynamicViT(keep=0.5, at=(1, 2)),)
    each = compose(toy("vit", depth=4), DynamicViT(keep=0.8, at=(1, 2), budget="mass", levels=(0.7, 0.7)))
    batch = images(each, batch=12)
    each.set_budget(0.5)
    with pytest.raises(ValueError, match="not calibrated yet"):
        each(batch)
    vitrim.fit(each, [(batch, None)])
    counts = costs_on_images(each, [batch]).tokens[:, -1]
    assert abs(counts.mean() - 16) < 1
    assert vitrim.fixed(each).run(batch)[1].count == 16
    assert model.methods[0].first_blocks(2, 4) == DynamicViT(keep=0.5, at=(1,))


def test_budgets_that_cannot_be_set() -> None:
    model = compose(toy("vit", depth=4), ToMe(r=2))
    with pytest.raises(ValueError, match=r"no method of this model has a budget to set \(ToMe"):
        model.set_budget(0.5)
    with pytest.raises(ValueError, match="budget must be above 0 and at most 1, got 0"):
        model.set_budget(0)


def test_a_budget_per_image_is_calibrated_anew() -> None:
    model = compose(toy("vit", depth=4), EViT(keep=0.8, at=(1, 2), budget="mass", fuse="drop"))
    batch = images(model, batch=12)
    vitrim.fit(model, [(batch, None)])
    model.set_budget(0.4)
    with pytest.raises(ValueError, match="not calibrated yet"):
        model(batch)
    vitrim.fit(model, [(batch, None)])
    counts = torch.tensor(model.run(batch)[1].padding.counts).double()
    assert abs(counts.mean() - 11) < 1  # 64 -> 26 -> 11
    steady = vitrim.fixed(model)
    assert steady.methods == (EViT(keep=0.4, at=(1, 2), fuse="drop"),)
    assert steady.run(batch)[1].count == 11 and model.methods[0].budget == "mass"
    with pytest.raises(ValueError, match=r"vitrim\.fixed\(model\), or vitrim export --fixed"):
        vitrim.export(model, "model.onnx")


@pytest.mark.parametrize(
    "method",
    [
        "EViT(keep=0.5, at=(1, 2), budget='mass', train_keep=(0.5, 1.0))",
        "DynamicViT(keep=0.5, at=(1, 2), budget='threshold')",
    ],
)
def test_training_calibrates_before_and_after(tmp_path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    from vitrim.methods.budgets import per_image

    found = []
    calibrate = per_image.calibrate
    monkeypatch.setattr(per_image, "calibrate", lambda *given: found.append(calibrate(*given)) or found[-1])
    methods = (method, "LoRA(rank=2)")
    run = small_run(tmp_path / "run", colour_folder(tmp_path / "data", 6), methods=methods, epochs=2)
    assert len(found) == 2 and found[0] != found[1]
    assert run.model.methods[0].levels == found[1]
    assert run.record["chosen_methods"][0] == repr(run.model.methods[0])
    assert run.record["costs"]["by_image"] is True


def test_levels_need_no_classes(tmp_path) -> None:
    methods = ("EViT(keep=0.5, at=(1, 2), budget='mass')", "LoRA(rank=2)")
    run = small_run(tmp_path / "run", table_of_numbers(tmp_path / "data"), methods=methods, epochs=1)
    assert run.model.task == "regress" and run.model.methods[0].levels is not None
    with pytest.raises(
        ValueError, match="EViT chooses by the loss of classes of whole pictures, which a regress task"
    ):
        small_run(
            tmp_path / "no",
            table_of_numbers(tmp_path / "data"),
            methods=("EViT(at='sparse', blocks=1, first=1)",),
        )


def test_a_resumed_run_draws_the_same_shares(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    methods = ("EViT(keep=0.5, at=(1, 2), train_keep=(0.3, 1.0))", "LoRA(rank=2)")
    data = colour_folder(tmp_path / "data", 6)
    small_run(tmp_path / "whole", data, methods=methods, epochs=3)
    rate = Training.learning_rate

    def stopping(self: Training, progress: float) -> float:
        if progress > 1.5:
            raise KeyboardInterrupt
        return rate(self, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "learning_rate", stopping)
        with pytest.raises(KeyboardInterrupt):
            small_run(tmp_path / "parts", data, methods=methods, epochs=3)
    small_run(tmp_path / "parts", data, methods=methods, epochs=3, resume=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
