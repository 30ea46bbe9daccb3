"""Merging back to timm: whatever folds gives a timm module that computes the same; all else is refused."""

import sys

import pytest
import torch
from timm import create_model
from toys import FAMILIES, images, toy, wake

import vitrim
from vitrim import compose, to_timm

FOLDING = [name for name, method in vitrim.METHODS.items() if method.folds]
STAYING = {
    "EViT(keep=0.7, at=(3, 6))": r"reducers \(block 3, 6\)",
    "ToMe(r=2)": "reducers",
    "VPT(prompts=2)": "prompts",
    "Adapter(width=4)": r"branches \(block 0 to 11\)",
    "Convpass(width=4)": "branches",
    "DyT(width=4)": "dispatchers",
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["LoRA", "SSF"])
def test_every_family_computes_the_same_in_timm(name: str, family: str) -> None:
    model = wake(compose(toy(family, depth=2), f"{name}()")).eval()
    plain = to_timm(model)
    assert type(plain) is type(toy(family, depth=2))
    assert all(type(part).__module__.split(".")[0] in ("torch", "timm") for part in plain.modules())
    with torch.no_grad():
        torch.testing.assert_close(plain(images(model)), model(images(model)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", FOLDING)
def test_every_method_that_folds_does(name: str) -> None:
    backbone = toy(depth=2)
    model = compose(backbone, vitrim.METHODS[name].example(compose(toy(depth=2))))
    if model.awaits is not None:
        with pytest.raises(ValueError, match="not chosen yet"):
            to_timm(model)
        return
    wake(model).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    plain = to_timm(model)
    fresh = toy(seed=5, depth=2)
    fresh.load_state_dict(plain.state_dict())  # timm's names, no more and no less
    with torch.no_grad():
        torch.testing.assert_close(fresh(images(model)), model(images(model)), rtol=1e-9, atol=1e-9)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not plain.training and all(parameter.requires_grad for parameter in plain.parameters())


@pytest.mark.parametrize("family", ["vit", "distilled", "siglip"])
def test_the_batch_norm_before_the_classifier_is_folded(family: str) -> None:
    model = wake(compose(toy(family, depth=2), "LoRA(rank=2)", "BatchNormHead()"))
    model.train()(images(model, batch=8))  # running statistics of its own
    plain = to_timm(model.eval())
    assert set(plain.state_dict()) == set(toy(family, depth=2).state_dict())
    with torch.no_grad():
        torch.testing.assert_close(plain(images(model)), model(images(model)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", STAYING)
def test_what_does_not_fold_is_named(method: str) -> None:
    model = compose(toy(), "LoRA(rank=2)", method) if "DyT" not in method else compose(toy(), method)
    with pytest.raises(ValueError, match=STAYING[method]) as refusal:
        to_timm(model)
    assert method.split("(")[0] in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_bias_that_timm_would_not_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """EVA's attention reads `qkv.weight` only, unless it is told: without that the check has to find it."""
    backbone = toy("dinov3-qkvb")
    model = wake(compose(backbone, "SSF()")).eval()
    assert to_timm(model).blocks[0].attn.qkv.bias is not None
    monkeypatch.setattr(sys.modules["vitrim.compose"], "call_biased_qkv", lambda vit: None)
    with pytest.raises(ValueError, match=r"does not read blocks\.0\.attn\.qkv\.bias"):
        to_timm(model)


def test_what_is_no_model_with_values_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a composed model"):
        to_timm(toy())
    with torch.device("meta"), pytest.raises(ValueError, match="meta device"):
        to_timm(compose(create_model("vit_tiny_patch16_224"), "LoRA()"))
