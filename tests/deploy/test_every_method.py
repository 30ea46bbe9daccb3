"""Every tuner and every reducer leaves Python as a program, or is refused in a sentence."""

from functools import partial
from pathlib import Path

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from toys import wake

from vitrim import METHODS, compose, export, fit
from vitrim.methods.tables import TUNERS

SMALL = partial(VisionTransformer, img_size=24, patch_size=4, embed_dim=16, num_heads=2, num_classes=5)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_it_is_exported_or_refused(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = compose(wake(SMALL(depth=2 if name in TUNERS else 3)))
    method = METHODS[name].example(plain)
    model = compose(plain.vit, method)
    if name == "FisherDelta":
        fit(model, [(torch.randn(4, 3, 24, 24), torch.tensor([0, 1, 2, 3]))])
    for weight in model.trained().values():
        weight.data += 0.05 * torch.randn_like(weight)
    target = tmp_path / "model.pt2"
    try:
        done = export(model.eval(), target)
    except ValueError as refusal:
        assert str(refusal).startswith(name) and not list(tmp_path.iterdir())
        assert name not in TUNERS, "every tuner has fixed shapes"
        return
    assert target.is_file() and done.agreement.agrees


@pytest.mark.parametrize(
    "text", ["SynQT(queries=2)", "ResTuning(form='prefix', length=2)", "PYRA(schedule=(5, 3))"]
)
def test_what_reads_or_modulates_tokens_becomes_onnx(text: str, tmp_path: Path) -> None:
    """Engines know attention of heads only, and cannot scatter."""
    torch.manual_seed(0)
    model = compose(wake(SMALL(depth=2)), text)
    for weight in model.trained().values():
        weight.data += 0.05 * torch.randn_like(weight)
    assert export(model.eval(), tmp_path / "model.onnx").agreement.agrees
