"""Linear probing computes what a frozen backbone says once: the same run, in less time."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import colour_folder, small_run, weights

from vitrim.runs.folder import RunFolder
from vitrim.training import loop, passes

CHANGES: list[dict[str, Any]] = [
    {},
    {"head": "batchnorm"},
    {"drop_last": False, "ema": 0.9},
    {"accumulate": 3},  # of 4 batches: one is left over at the end of every epoch
    {"accumulate": 2, "batch_size": 9},
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return colour_folder(tmp_path_factory.mktemp("colours"))


def history(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in RunFolder(folder).history()]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_the_same_history_and_weights_as_without(
    tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    settings = {"methods": (), "augment": "none", "batch_size": 7, "epochs": 2, **changes}
    calls = []
    own = loop.freeze_features
    monkeypatch.setattr(loop, "freeze_features", lambda *given: calls.append(own(*given)) or calls[-1])
    small_run(tmp_path / "once", data, **settings)
    assert not isinstance(calls[0], str)
    monkeypatch.setattr(loop, "freeze_features", lambda task, accelerator: "for the test")
    small_run(tmp_path / "anew", data, **settings)
    once, anew = history(tmp_path / "once"), history(tmp_path / "anew")
    assert len(once) == 2
    for first, second in zip(once, anew, strict=True):
        assert first == pytest.approx(second, rel=1e-5)
    first_weights, second_weights = weights(tmp_path / "once"), weights(tmp_path / "anew")
    assert set(first_weights) == set(second_weights)
    for name, value in first_weights.items():
        assert torch.allclose(value, second_weights[name], rtol=1e-5, atol=1e-6), name


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"augment": "flip"}, "changed at random"),
        ({"drop_path": 0.2}, "draws at random"),
        ({"mixup": 0.2}, "mixed"),
        ({"methods": ("LoRA(rank=2)",)}, "methods act"),
        ({"methods": ("EViT(keep=0.7, at=(1,))",)}, "methods act"),
    ],
)
def test_not_where_an_epoch_would_see_something_else(
    tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], reason: str
) -> None:
    found = []
    own = loop.freeze_features
    monkeypatch.setattr(loop, "freeze_features", lambda *given: found.append(own(*given)) or found[-1])
    small_run(tmp_path / "run", data, **{"methods": (), "augment": "none", "epochs": 1, **changes})
    assert reason in found[0]


def test_not_where_it_takes_too_much_memory(
    tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitrim.training.frozen_features.MOST_BYTES", 100)
    found = []
    own = loop.freeze_features
    monkeypatch.setattr(loop, "freeze_features", lambda *given: found.append(own(*given)) or found[-1])
    small_run(tmp_path / "run", data, methods=(), augment="none", epochs=1)
    assert "GiB" in found[0]


def test_a_part_of_an_unknown_kind_that_draws_at_random_is_met(
    tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from small_runs import toy_vit

    class Noisy(torch.nn.LayerNorm):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return tokens + torch.randn_like(tokens) if self.training else tokens

    vit = toy_vit()
    vit.fc_norm = Noisy(32)
    found = []
    own = loop.freeze_features
    monkeypatch.setattr(loop, "freeze_features", lambda *given: found.append(own(*given)) or found[-1])
    training = {"epochs": 1, "batch_size": 8, "lr": 1e-2}
    loop.train(vit, data, methods=(), out=tmp_path / "run", training=training, cpu=True, quiet=True)
    assert "draws at random" in found[0]


def test_stopped_and_resumed_is_the_same(tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"methods": (), "augment": "none", "epochs": 3}
    small_run(tmp_path / "whole", data, **settings)
    own = passes.keep_epoch

    def stop(*given: Any) -> Any:
        picked = own(*given)
        if picked.last == 2:
            raise KeyboardInterrupt
        return picked

    monkeypatch.setattr(passes, "keep_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        small_run(tmp_path / "stopped", data, **settings)
    monkeypatch.setattr(passes, "keep_epoch", own)
    small_run(tmp_path / "stopped", data, resume=True, **settings)
    assert history(tmp_path / "stopped") == history(tmp_path / "whole")
    stopped, whole = weights(tmp_path / "stopped"), weights(tmp_path / "whole")
    assert all(torch.equal(stopped[name], whole[name]) for name in whole)


def test_gradients_left_over_do_not_outlive_their_epoch(
    tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is stopped between epochs has nothing pending that its checkpoint would not know."""
    settings = {
        "methods": (),
        "augment": "none",
        "batch_size": 8,
        "accumulate": 3,
        "select": "last",
        "epochs": 3,
    }
    small_run(tmp_path / "whole", data, **settings)
    own = passes.train_epoch

    def stop(learning: Any, epoch: int, progress: Any) -> float:
        if epoch == 2:
            raise KeyboardInterrupt
        return own(learning, epoch, progress)

    with monkeypatch.context() as stopped:
        stopped.setattr(passes, "train_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            small_run(tmp_path / "stopped", data, **settings)
    small_run(tmp_path / "stopped", data, resume=True, **settings)
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
