"""Tuners that add nothing and train what is there: everything, nothing, biases, norms."""

from pathlib import Path

import pytest
import torch
import tuned
from toys import toy

import vitrim
from vitrim import BitFit, Full, LayerNormTuning, Linear, compose
from vitrim.network.method import Method


def trained(method: str | Method, family: str = "vit") -> set[str]:
    """Names inside the backbone, without the classifier."""
    names = compose(toy(family), method).trained()
    return {name.removeprefix("vit.") for name in names if "head" not in name}


def test_full_trains_everything_and_linear_nothing() -> None:
    assert trained(Full()) == {name for name, _ in toy().named_parameters() if "head" not in name}
    assert trained(Linear()) == set()


@pytest.mark.parametrize("family", ["vit", "dinov2-registers", "clip", "qk-norm", "eva02", "dinov3-qkvb"])
def test_bitfit_trains_every_bias(family: str) -> None:
    biases = {n for n, _ in toy(family).named_parameters() if n.endswith("bias") and "head" not in n}
    assert trained(BitFit(), family) == biases
    assert biases


def test_bitfit_trains_the_roles_it_is_told() -> None:
    assert {
        name.split(".", 2)[2] for name in trained(BitFit(roles=("mlp_in", "norm"))) if "blocks" in name
    } == {
        "mlp.fc1.bias",
        "norm1.bias",
        "norm2.bias",
    }
    assert all("q_bias" in name for name in trained(BitFit(roles=("query",)), "dinov3-qkvb"))
    assert len(trained(BitFit(roles=("query", "value")), "eva02")) == 24


@pytest.mark.parametrize(
    ("roles", "family", "sentence"),
    [
        (("query",), "vit", "query of block 0 has one bias with (key|value); name both or neither"),
        (("key",), "dinov3-qkvb", "this backbone has no bias for key; name other roles"),
        (("value", "norm"), "dinov3", "this backbone has no bias for value"),
    ],
)
def test_bitfit_refuses_biases_that_are_not_there(roles: tuple[str, ...], family: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        compose(toy(family), BitFit(roles=roles))


@pytest.mark.parametrize("family", ["vit", "clip", "qk-norm", "eva02"])
def test_norm_tuning_trains_the_norms(family: str) -> None:
    vit = toy(family)
    norms = {n for n, m in vit.named_modules() if isinstance(m, torch.nn.LayerNorm)}
    assert trained(LayerNormTuning(), family) == {f"{n}.{part}" for n in norms for part in ("weight", "bias")}
    assert trained(LayerNormTuning(parts="weight"), family) == {f"{name}.weight" for name in norms}


METHODS = [Full(), Linear(), BitFit(), LayerNormTuning()]


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("family", ["vit", "siglip", "dinov3-qkvb", "eva02"])
def test_contract(tmp_path: Path, method: Method, family: str) -> None:
    tuned.check_starts_unchanged(method, family)
    tuned.check_folds(method, family=family)
    tuned.check_round_trip(method, tmp_path, family)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_training(method: Method) -> None:
    tuned.check_training(method, "EViT(keep=0.5, at=(2,))")


def test_biases_train_beside_other_tuners() -> None:
    for other in ("LoRA(rank=2)", "FacT(rank=2)", "RepAdapter(width=2)", "SSF()", "Adapter(width=2)"):
        model = tuned.stirred(other, BitFit())
        assert sum(name.endswith("norm1.bias") for name in model.trained()) == tuned.BLOCKS
        merged = vitrim.merge(model)
        torch.testing.assert_close(tuned.logits(merged), tuned.logits(model), rtol=1e-10, atol=1e-10)
    tuned.check_training("LoRA(rank=2)", BitFit())


def test_norms_are_tuned_once() -> None:
    with pytest.raises(
        ValueError, match=r"SSF.*: the weight of norm of block 0 already trains; one tuner per layer"
    ):
        compose(toy(), LayerNormTuning(), "SSF()")
    with pytest.raises(ValueError, match=r"LayerNormTuning.*: norm of block 0 already carries SSF"):
        compose(toy(), "SSF()", LayerNormTuning())
    with pytest.raises(ValueError, match="LayerNormTuning: parts must be one of 'weight', 'bias'"):
        LayerNormTuning(parts=("gain",))
