"""Classes of very different sizes: weights in the loss, a balanced order, and the same in every process."""

from collections import Counter
from pathlib import Path

import numpy
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from small_runs import colour_folder, same, small_run, weights
from torch.nn import functional as F

from vitrim.data import Split
from vitrim.runs.batches import BalancedOrder, EpochOrder
from vitrim.settings.training import Training
from vitrim.training.objectives import Objective, balancing_weights


def labelled(labels: list[object]) -> Split:
    return Split(lambda name, at_least=None: None, [str(place) for place in range(len(labels))], labels)


LABELS = [0] * 40 + [1] * 9 + [2] * 3


def test_weights_are_sklearns_and_average_to_one() -> None:
    found = balancing_weights("classify", labelled(LABELS), 3)
    expected = compute_class_weight("balanced", classes=numpy.arange(3), y=LABELS)
    torch.testing.assert_close(found.double(), torch.tensor(expected), rtol=1e-6, atol=0)
    assert found[LABELS].mean().item() == pytest.approx(1)
    labels = balancing_weights("multilabel", labelled([(1, 0, 0), (1, 1, 0), (0, 0, 0), (0, 0, 0)]), 3)
    assert labels.tolist() == [1, 3, 1]


def test_halves_of_a_batch_weigh_as_the_whole() -> None:
    """Where torch divides by the weights in a batch, two processes would minimise something else."""

    class Model:
        task = "classify"

    weights = balancing_weights("classify", labelled(LABELS), 3)
    objective = Objective(Model(), Training(class_weights="balanced"), weights)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(8, 3, generator=generator), torch.tensor([0, 0, 0, 0, 0, 0, 1, 2])
    halves = (objective(logits[:4], labels[:4]) + objective(logits[4:], labels[4:])) / 2
    torch.testing.assert_close(objective(logits, labels), halves)
    plain = F.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(objective(logits, labels), (plain * weights[labels]).mean())
    smooth = Objective(Model(), Training(class_weights="balanced", label_smoothing=0.1), weights)  # type: ignore[arg-type]
    plain = F.cross_entropy(logits, labels, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(smooth(logits, labels), (plain * weights[labels]).mean())
    soft = F.one_hot(labels, 3).float()
    torch.testing.assert_close(objective(logits, soft), objective(logits, labels))


def order_of(epoch: int, seed: int = 3) -> list[int]:
    order = BalancedOrder([range(40), range(40, 49), range(49, 52)], 52, seed)
    order.epoch = epoch
    return list(order)


def test_a_balanced_epoch_holds_every_class_equally_often() -> None:
    found = order_of(0)
    assert len(found) == 52 == len(set(found))  # repeated images are told apart, and so changed anew
    counts = Counter(LABELS[index % 52] for index in found)
    assert max(counts.values()) - min(counts.values()) <= 1
    repeats = Counter(index % 52 for index in found if LABELS[index % 52] == 2)
    assert max(repeats.values()) - min(repeats.values()) <= 1
    assert order_of(0) == found != order_of(1)
    assert order_of(0, seed=4) != found


def test_the_usual_order_is_as_before() -> None:
    order = EpochOrder(10, seed=42)
    assert sorted(order) == list(range(10))


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("uneven")
    data = colour_folder(place / "data")
    for index in range(4, 16):
        (place / "data" / "red" / f"{index}.png").unlink()
    return data


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, uneven: str) -> Path:
    return small_run(tmp_path_factory.mktemp("plain") / "run", uneven, epochs=3).folder


@pytest.mark.parametrize("setting", [{"sampler": "balanced"}, {"class_weights": "balanced"}])
def test_a_stopped_run_resumes_to_the_same_weights(
    tmp_path: Path, uneven: str, plain: Path, setting: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import vitrim.training.passes as passes

    settings = {"epochs": 3, **setting}
    whole = small_run(tmp_path / "whole", uneven, **settings)
    keep, calls = passes.keep_epoch, []

    def stop_after_two(*arguments: object) -> object:
        calls.append(keep(*arguments))  # type: ignore[arg-type]
        if len(calls) == 2:
            raise KeyboardInterrupt
        return calls[-1]

    monkeypatch.setattr(passes, "keep_epoch", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        small_run(tmp_path / "cut", uneven, **settings)
    monkeypatch.undo()
    small_run(tmp_path / "cut", uneven, resume=True, **settings)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert not same(weights(whole.folder), weights(plain))


def test_the_record_holds_every_class(tmp_path: Path, uneven: str) -> None:
    results = small_run(tmp_path / "run", uneven, epochs=1).record["results"]
    assert [part["name"] for part in results["per_class"]] == ["blue", "green", "red"]
    recalls = [part["accuracy"] for part in results["per_class"] if part["images"]]
    assert results["mean_per_class"] == pytest.approx(sum(recalls) / len(recalls))
    confusion = torch.tensor(results["confusion"])
    assert confusion.sum().item() == results["images"]
    assert confusion.diagonal().sum().item() == pytest.approx(results["top1"] * results["images"])


def test_both_at_once_are_refused(uneven: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="correct the same imbalance twice"):
        small_run(tmp_path / "run", uneven, sampler="balanced", class_weights="balanced")
    with pytest.raises(ValueError, match=r"regression_loss=huber is for numbers to predict"):
        small_run(tmp_path / "run", uneven, regression_loss="huber")
    with pytest.raises(ValueError, match=r"class_weights must be one of none, balanced, got 'equal'"):
        small_run(tmp_path / "run", uneven, class_weights="equal")
