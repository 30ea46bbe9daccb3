"""Training settings: refusals in sentences, and the learning-rate curve."""

import dataclasses

import pytest

from vitrim.settings.training import Training, explanations


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"epochs": 2.5}, "epochs must be a whole number"),
        ({"batch_size": True}, "batch_size must be a whole number"),
        ({"lr": float("nan")}, "lr must be a number at least 0, got nan"),
        ({"lr": "fast"}, "lr must be a number"),
        ({"label_smoothing": 1.0}, "label_smoothing must be a number at least 0 and below 1"),
        ({"clip_grad": 0}, "clip_grad must be a number above 0"),
        ({"min_lr": 0.1}, "min_lr .0.1. must not be above lr"),
        ({"epochs": 3, "warmup_epochs": 5}, "warmup_epochs .5. must not be above epochs .3."),
        ({"schedule": "cosin"}, "schedule must be one of cosine, constant, release, got 'cosin'"),
        ({"precision": "fp8"}, "precision must be one of no, bf16, fp16"),
        ({"drop_last": 1}, "drop_last must be true or false"),
        ({"epoch": 3}, "no training setting 'epoch'; did you mean epochs?"),
    ],
)
def test_a_bad_setting_is_refused_in_a_sentence(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Training().changed(changes)


def test_every_setting_is_explained() -> None:
    assert set(explanations()) == {field.name for field in dataclasses.fields(Training)}


def test_cosine_rises_to_lr_and_falls_to_min_lr() -> None:
    training = Training(epochs=20, lr=0.5, min_lr=0.1, warmup_lr=0.0, warmup_epochs=4)
    assert training.learning_rate(0) == 0.0
    assert training.learning_rate(1) == pytest.approx(0.125)
    assert training.learning_rate(4) == pytest.approx(0.5)
    assert training.learning_rate(12) == pytest.approx(0.3)
    assert training.learning_rate(20) == pytest.approx(0.1)


def test_release_schedule_is_the_one_the_papers_ran() -> None:
    training = Training(
        schedule="release"
    )  # the figures are those of the released scripts, 100 epochs at 1e-3
    rates = [training.learning_rate(epoch) for epoch in (0, 1, 2, 3, 10, 11, 99)]
    assert rates == pytest.approx([1e-6, 1e-6, 1.009e-4, 2.008e-4, 9.001e-4, 9.758e-4, 1.098e-5], rel=1e-3)


def test_warm_up_follows_the_number_of_epochs_unless_given() -> None:
    assert Training(epochs=5).warmup == 0.5
    assert Training(epochs=5, warmup_epochs=0).learning_rate(0) == 1e-3
