"""FacT equals the official implementation in both forms, and owns its shared factors once."""

from pathlib import Path

import pytest
import torch
import tuned
from golden import Golden, assert_close
from toys import toy

import vitrim
from vitrim import FacT, compose
from vitrim.network.model import StagedViT

OFFICIAL = {  # our term -> the official middle factor
    "attn.qkv.terms.query": "attn.q",
    "attn.qkv.terms.key": "attn.k",
    "attn.qkv.terms.value": "attn.v",
    "attn.proj.terms.attention_out": "attn.proj",
    "mlp.fc1.terms.mlp_in": "mlp.fc1",
    "mlp.fc2.terms.mlp_out": "mlp.fc2",
}


def golden_model(case: str) -> tuple[StagedViT, Golden, dict[str, str]]:
    golden = Golden(case)
    settings, form = golden.about["hyper"], golden.about["method"].removeprefix("fact_")
    model = compose(golden.backbone(), FacT(rank=settings["rank"], form=form, scale=settings["scale"]))
    names = {"shared.FacT.u.weight": "FacTu.weight", "shared.FacT.v.weight": "FacTv.weight"}
    if form == "tk":  # the release makes columns for 12 blocks whatever the depth
        factors = model.shared["FacT"]
        factors.p = torch.nn.Parameter(torch.empty(settings["rank"], 144, dtype=torch.float64))
        names |= {"shared.FacT.p": "FacTp", "shared.FacT.c": "FacTc"}
    else:
        names |= {
            f"vit.blocks.{i}.{ours}.s.weight": f"blocks.{i}.{official}_FacTs.weight"
            for i in range(model.depth)
            for ours, official in OFFICIAL.items()
        }
    tuned.set_values(model, golden, names)
    return model.eval(), golden, names


@pytest.mark.parametrize("case", ["fact_tt_r8_s1_img224", "fact_tk_r16_s01"])
def test_equals_the_official_implementation(case: str) -> None:
    model, golden, names = golden_model(case)
    with torch.no_grad():
        assert_close(model(golden.images()), golden["logits"])
        assert_close(vitrim.merge(model)(golden.images()), golden["logits"])
    if "grad_norm" in golden:
        tuned.check_gradients(model, golden, names)


METHODS = [FacT(rank=3), FacT(rank=3, form="tk", scale=0.5)]


@pytest.mark.parametrize("family", ["vit", "dinov2-registers", "siglip", "dinov3", "dinov3-qkvb", "pe-core"])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_folds_exactly(method: FacT, family: str) -> None:
    tuned.check_folds(method, family=family)
    assert not vitrim.merge(tuned.stirred(method, family=family)).shared


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_contract(tmp_path: Path, method: FacT) -> None:
    tuned.check_starts_unchanged(method)
    tuned.check_matters(method)
    tuned.check_folds(method, "EViT(keep=0.5, at=(1, 4))")
    tuned.check_training(method, "EViT(keep=0.5, at=(2,))")
    tuned.check_round_trip(method, tmp_path)


def test_factors_are_stored_once() -> None:
    names = set(compose(toy(), FacT(rank=3, form="tk")).trained())
    own = {name for name in names if "head" not in name}
    assert own == {f"shared.FacT.{name}" for name in ("u.weight", "v.weight", "c", "p")}
    tensor_train = compose(toy(), FacT(rank=3)).trained()
    assert (
        sum("FacT" in name for name in tensor_train) == 2
        and sum(".s.weight" in name for name in tensor_train) == 72
    )


def test_moving_and_copying_keep_the_factors_shared() -> None:
    model = tuned.stirred(FacT(rank=3)).float()
    term = model.vit.blocks[3].mlp.fc1.terms["mlp_in"]
    assert term.reads[0] is model.shared["FacT"] and term.reads[0].u.weight.dtype == torch.float32


def test_what_has_no_whole_slices_is_refused() -> None:
    with pytest.raises(
        ValueError, match="mlp_in of block 0 maps 24 to 64 channels, but FacT needs whole multiples"
    ):
        compose(toy("eva02"), FacT())
    with pytest.raises(ValueError, match="FacT: form must be one of 'tt', 'tk', got 'cp'"):
        FacT(form="cp")
    with pytest.raises(
        ValueError, match=r"FacT\(.*\): query of block 0 already carries FacT; one tuner per layer"
    ):
        compose(toy(), FacT(), FacT(rank=2))
