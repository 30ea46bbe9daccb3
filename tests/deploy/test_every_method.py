"""Every tuner and every reducer leaves Python as a program, or is refused in a sentence."""

from functools import partial
from pathlib import Path

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from toys import images, wake

from vitrim import METHODS, compose, export, fit
from vitrim.deploy.inference import ready
from vitrim.methods.tables import TUNERS
from vitrim.network.model import StagedViT
from vitrim.training.fitting import needs_fit

SMALL = partial(VisionTransformer, img_size=24, patch_size=4, embed_dim=16, num_heads=2, num_classes=5)
# Logits are the mean of all tokens: what a reduction leaves of them shows, in the last block too
AVERAGING = partial(SMALL, global_pool="avg", fc_norm=False)
FOLDING = [name for name in sorted(METHODS) if METHODS[name].folds]
LEAVING = ["LoRA", *(name for name in sorted(METHODS) if name not in FOLDING)]


def stirred(model: StagedViT) -> StagedViT:
    if needs_fit(model):
        fit(model, [(torch.randn(4, 3, 24, 24), torch.tensor([0, 1, 2, 3]))])
    for weight in model.trained().values():
        weight.data += 0.05 * torch.randn_like(weight)
    return model.eval()


@pytest.mark.parametrize("name", FOLDING)
def test_what_folds_leaves_as_the_plain_backbone(name: str) -> None:
    """The same modules, so the same program: LoRA is exported for all of them."""
    plain = compose(wake(SMALL(depth=2)))
    built = str(ready(plain).model)
    model = stirred(compose(plain.vit, METHODS[name].example(plain)))
    leaving, batch = ready(model), images(model)
    assert str(leaving.model) == built, f"{name} says that it folds, and leaves something"
    with torch.no_grad():
        torch.testing.assert_close(leaving(batch), model(batch), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LEAVING)
def test_it_is_exported_or_refused(name: str, tmp_path: Path) -> None:
    plain = compose(wake(AVERAGING(depth=2 if name == "FirstBlocks" else 1)))
    model = stirred(compose(plain.vit, METHODS[name].example(plain)))
    target = tmp_path / "model.pt2"
    try:
        done = export(model, target)
    except ValueError as refusal:
        assert str(refusal).startswith(name) and not list(tmp_path.iterdir())
        assert name not in TUNERS, "every tuner has fixed shapes"
        return
    assert target.is_file() and done.agreement.agrees


@pytest.mark.parametrize(
    ("text", "depth"),
    [("SynQT(queries=2)", 2), ("ResTuning(form='prefix', length=2)", 2), ("PYRA(schedule=(5,))", 1)],
)
def test_what_reads_or_modulates_tokens_becomes_onnx(text: str, depth: int, tmp_path: Path) -> None:
    """Engines know attention of heads only, and cannot scatter."""
    model = stirred(compose(wake(AVERAGING(depth=depth)), text))
    assert export(model, tmp_path / "model.onnx").agreement.agrees
