"""The weights that GPS's released code and the equations of TR-PTS choose, entry by entry."""

import numpy as np
import pytest
import torch
from golden import Golden, assert_close
from torch import Tensor

from vitrim import EViT, FisherDelta, compose, fit
from vitrim.methods.selection.allocation import layer_totals, top_counts
from vitrim.methods.selection.candidates import candidates
from vitrim.methods.selection.scores import measure_scores

GPS = FisherDelta(top=None, connections=1, score="gradient", biases=True, patch=True)
TRPTS = FisherDelta(layer="block")


def gps_batches(golden: Golden) -> list[tuple[Tensor, Tensor]]:
    data, labels = golden.about["data"], golden["labels"]
    shape = (data["batch_size"], 3, 64, 64)
    drawn = [np.random.default_rng(data["seed"] + 10 * k).standard_normal(shape) for k in range(2)]
    return [(torch.from_numpy(images), labels[k]) for k, images in enumerate(drawn)]


def trpts_batches(golden: Golden) -> list[tuple[Tensor, Tensor]]:
    data, labels = golden.about["data"], golden["labels"]
    shape = (data["batch_size"], 3, 64, 64)
    drawn = [np.random.default_rng(data["seed"] + k).standard_normal(shape) for k in range(2)]
    return [(torch.from_numpy(images), labels[k]) for k, images in enumerate(drawn)]


def test_gps_trains_what_the_release_trains() -> None:
    golden = Golden("gps_ce_t1")
    model = compose(golden.backbone(), GPS)
    fit(model, gps_batches(golden))
    for candidate in candidates(model, patch=True):
        assert torch.equal(candidate.layer.entries.index, golden[f"sel/{candidate.name}"].long())
    trained = sum(weight.numel() for weight in model.trained().values())
    assert trained == sum(golden.about["trainable_counts"].values())
    biases = {name for name in model.trained() if not name.endswith("entries.values")}
    assert biases == {f"vit.{name}" for name in golden.about["trained_entirely"]}


def test_gps_gradients_are_the_release_s() -> None:
    golden = Golden("gps_ce_t1")
    model = compose(golden.backbone(), num_classes=10)
    scores = measure_scores(model, gps_batches(golden), GPS, "gradient", patch=True)
    for name, score in scores.values.items():
        assert_close(score[:8].topk(3, dim=1).values, golden[f"grad_top/{name}"])
        assert_close(score.sum(), golden[f"grad_sumabs/{name}"])


@pytest.fixture(scope="module")
def trpts() -> Golden:
    return Golden("paper_trpts_persample_block")


def test_fisher_information_is_the_mean_of_squared_gradients_per_image(trpts: Golden) -> None:
    model = compose(trpts.backbone())
    scores = measure_scores(model, trpts_batches(trpts), TRPTS)
    assert list(scores.values) == trpts.about["candidate_names"] and scores.images == 8
    values = list(scores.values.values())
    assert_close(torch.stack([value.sum() for value in values]), trpts["fim_sum"])
    assert_close(torch.stack([value.max() for value in values]), trpts["fim_max"])
    for name, value in scores.values.items():
        assert_close(value[0, :8], trpts[f"fim_row0/{name}"])
    counts = top_counts(scores.values, 1.0)
    assert sum(counts.values()) == int(trpts["topM_count"])
    totals = layer_totals(list(counts.values()), [int(name.split(".")[1]) for name in counts])
    assert_close(torch.tensor(totals[::4], dtype=torch.float64) / sum(counts.values()), trpts["w"])


def test_trpts_chooses_the_weights_its_equations_choose(trpts: Golden) -> None:
    model = compose(trpts.backbone(), TRPTS)
    fit(model, trpts_batches(trpts))
    (method,) = model.methods
    assert isinstance(method, FisherDelta) and method.counts is not None
    assert list(method.counts[::4]) == trpts["C"].tolist() == trpts.about["C"]
    for candidate in candidates(model):
        assert torch.equal(candidate.layer.entries.index, trpts[f"sel/{candidate.name}"].long())
    chosen = sum(p.numel() for name, p in model.trained().items() if "entries" in name)
    assert chosen == trpts.about["selected_total"]


def test_trpts_tokens_keep_the_floor_and_fuse_the_rest() -> None:
    golden = Golden("paper_trpts_tokens_r8")
    model = compose(golden.backbone(), EViT(keep=0.8, at=(1, 3), rounding="floor")).eval()
    with torch.no_grad():
        assert_close(model(golden.images()), golden["logits"])
