"""Plain weights for timm, torchvision and transformers: their own models, filled from the file, compute what
the composition does; what they have no form for is refused and leaves nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file
from timm.layers.activations import QuickGELU
from torch import Tensor
from toys import NORM, images, toy, wake

import vitrim
from vitrim import compose, export
from vitrim.backbones.weights import key_maps
from vitrim.cli.main import main
from vitrim.network.model import StagedViT

transformers = pytest.importorskip("transformers", reason="transformers comes with the extra `transformers`")


def model(family: str, *methods: str, classes: int | None = None, **changes: Any) -> StagedViT:
    """Three blocks with everything awake; of CLIP's classifier the bias stays zero, as it has none."""
    backbone = toy(family, torch.float32, depth=3, **changes)
    staged = wake(compose(backbone, *(methods or ("LoRA(rank=2)",)), num_classes=classes)).eval()
    if family == "clip" and staged.num_classes:
        with torch.no_grad():
            staged.vit.head.bias.zero_()
    return staged


def same(theirs: Tensor, staged: StagedViT) -> None:
    with torch.no_grad():
        ours = staged(images(staged))
    assert theirs.shape == ours.shape
    assert (theirs - ours).abs().max() <= 3e-6 * ours.abs().max()


def token(answer: Any) -> Tensor:
    return answer.last_hidden_state[:, 0]


T: Any = transformers
FORMS = {  # family, classes, changes, transformers' class, what of its answer
    "vit": ("vit", None, {}, T.ViTForImageClassification, lambda answer: answer.logits),
    "vit without classifier": ("vit", 0, {}, T.ViTModel, token),
    "grey rectangle": (
        "vit", None, {"in_chans": 1, "img_size": (24, 40)}, T.ViTForImageClassification,
        lambda answer: answer.logits,
    ),
    "deit": (
        "distilled", None, {}, T.DeiTForImageClassificationWithTeacher, lambda answer: answer.logits,
    ),
    "dinov2": ("dinov2", None, {}, T.Dinov2ForImageClassification, lambda answer: answer.logits),
    "dinov2 with registers": (
        "dinov2-registers", None, {}, T.Dinov2WithRegistersForImageClassification,
        lambda answer: answer.logits,
    ),
    "dinov2 without classifier": ("dinov2", 0, {}, T.Dinov2Model, token),
    "dinov3": ("dinov3-qkvb", 0, {}, T.DINOv3ViTModel, token),
    "dinov3, average": (
        "dinov3", 0, {}, T.DINOv3ViTModel, lambda answer: answer.last_hidden_state[:, 5:].mean(1),
    ),
    "siglip": ("siglip", 0, {}, T.SiglipVisionModel, lambda answer: answer.pooler_output),
    "clip": ("clip", 0, {"act_layer": QuickGELU}, T.CLIPVisionModel, lambda answer: answer.pooler_output),
    "clip with projection": (
        "clip", None, {}, T.CLIPVisionModelWithProjection, lambda answer: answer.image_embeds,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_transformers(name: str, tmp_path: Path) -> None:
    family, classes, changes, kind, read = FORMS[name]
    staged = model(family, classes=classes, **changes)
    done = export(staged, tmp_path / "folder", to="transformers")
    assert done.agreement.agrees and kind.__name__ in done.about["open_with"]
    theirs = kind.from_pretrained(done.path).eval()
    with torch.no_grad():
        same(read(theirs(pixel_values=images(staged))), staged)
        if staged.vit.global_pool != "avg":  # which pooling it was is not in transformers' config.json
            same(compose(str(done.path)).eval()(images(staged)), staged)  # and by our own reader
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "folder.check.json"]
    processor = json.loads((done.path / "preprocessor_config.json").read_text())
    assert processor["image_mean"] == list(staged.preprocess.mean)


def test_names_of_classes_go_with_it(tmp_path: Path) -> None:
    staged = model("vit", classes=3)
    staged.classes = ("cat", "dog", "axolotl")
    done = export(staged, tmp_path / "folder", to="transformers")
    theirs = transformers.ViTForImageClassification.from_pretrained(done.path)
    assert theirs.config.id2label == {0: "cat", 1: "dog", 2: "axolotl"}
    assert theirs.config.problem_type == "single_label_classification"
    assert len({file.stat().st_mode for file in done.path.iterdir()}) == 1  # as readable as the rest


def test_a_saved_composition_is_not_replaced(tmp_path: Path) -> None:
    staged, mine = model("vit", classes=3), tmp_path / "mine.safetensors"
    vitrim.save(staged, mine)
    before = mine.read_bytes()
    with pytest.raises(FileExistsError, match=r"mine.safetensors is a composition that vitrim saved"):
        export(staged, mine, to="timm")
    assert mine.read_bytes() == before and list(tmp_path.iterdir()) == [mine]


@pytest.mark.parametrize("method", ["LoRA(rank=2)", "SSF()", "BitFit()"])
def test_torchvision(method: str, tmp_path: Path) -> None:
    backbone = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, embed_dim=48, num_classes=5
    )
    staged = wake(compose(backbone, method)).eval()
    done = export(staged, tmp_path / "weights.safetensors", to="torchvision")
    theirs = torchvision.models.VisionTransformer(32, 8, 2, 3, 48, 192, num_classes=5).eval()
    theirs.load_state_dict(load_file(done.path), strict=True)
    with torch.no_grad():
        same(theirs(images(staged)), staged)


@pytest.mark.parametrize("family", ["vit", "siglip", "dinov3", "eva02", "average"])
def test_timm(family: str, tmp_path: Path) -> None:
    staged = model(family, "SSF()" if family == "siglip" else "LoRA(rank=2)")
    done = export(staged, tmp_path / "plain.safetensors", to="timm")
    theirs = toy(family, torch.float32, depth=3, seed=5)
    theirs.load_state_dict(load_file(done.path), strict=True)
    with torch.no_grad():
        same(theirs(images(staged)), staged)


def test_timm_by_its_own_name(tmp_path: Path) -> None:
    staged = wake(compose("vit_tiny_patch16_224", "LoRA(rank=2)", num_classes=3, image_size=32)).eval()
    done = export(staged, tmp_path / "plain.safetensors", to="timm")
    assert done.about["open_with"].startswith("timm.create_model('vit_tiny_patch16_224', ")
    theirs = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, num_classes=3, checkpoint_path=str(done.path)
    ).eval()
    with torch.no_grad():
        same(theirs(images(staged)), staged)
    again = compose("vit_tiny_patch16_224", weights=done.path, image_size=32).eval()
    with torch.no_grad():
        same(again(images(staged)), staged)


REFUSED = {
    "a reducer": ("vit", ("LoRA(rank=2)", "EViT(keep=0.5, at=(1,))"), "timm", "reducers"),
    "branches": ("vit", ("Adapter(width=2)",), "transformers", "branches"),
    "another family": ("eva02", (), "transformers", "no form for this Eva"),
    "ViTamin": ("vitamin", (), "transformers", "no MLP like timm's GeGluMlp"),
    "relative positions": ("beit", (), "transformers", "none of timm's Beit"),
    "torchvision, DINOv2": ("dinov2", (), "torchvision", "ls1"),
    "torchvision, Eva": ("dinov3", (), "torchvision", "the plain one of 2020"),
    "parallel attentions": ("parallel-things", (), "transformers", "none of timm's"),
    "parallel halves": ("parallel-scaling", (), "torchvision", "the plain one of 2020"),
    "packed patches": ("naflex-map", (), "torchvision", "the plain one of 2020"),
    "normed queries": ("qk-norm", (), "transformers", "q_norm"),
    "DINOv3 with a classifier": ("dinov3", (), "transformers", "no form with a classifier"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_library_has_no_form_for(name: str, tmp_path: Path) -> None:
    family, methods, to, said = REFUSED[name]
    target = tmp_path / ("folder" if to == "transformers" else "plain.safetensors")
    with pytest.raises(ValueError, match=said) as refusal:
        export(model(family, *methods), target, to=to)
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_another_epsilon_is_seen_by_running(tmp_path: Path) -> None:
    """torchvision's is 1e-6; all names and shapes fit a model of 1e-5."""
    staged = model("vit", norm_layer=NORM)
    with pytest.raises(ValueError, match="other outputs"):
        export(staged, tmp_path / "plain.safetensors", to="torchvision")
    assert not list(tmp_path.iterdir())


def test_a_wrong_map_is_seen_by_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = key_maps.TRANSFORMERS
    swapped = {"norm1": "norm2", "norm2": "norm1"}
    names = [(rule, swapped_name(new, swapped)) for rule, new in layout.names]
    monkeypatch.setattr(
        "vitrim.backbones.weights.wrappers.LAYOUTS",
        tuple(
            key_maps.Layout(**{**vars(layout), "names": tuple(names)}) if each is layout else each
            for each in key_maps.LAYOUTS
        ),
    )
    with pytest.raises(ValueError, match="other outputs"):
        export(model("vit"), tmp_path / "folder", to="transformers")
    assert not list(tmp_path.iterdir())


def swapped_name(name: str, swapped: dict[str, str]) -> str:
    return next((name.replace(old, new) for old, new in swapped.items() if f".{old}." in name), name)


def test_refusals_of_the_call(tmp_path: Path) -> None:
    staged = model("vit")
    (tmp_path / "folder").mkdir()
    for name, settings, said in (
        ("folder", {"to": "transformers"}, "is there already"),
        ("plain.pth", {"to": "timm"}, r"ends in \.safetensors"),
        ("model.safetensors", {"to": "timm"}, "otherwise"),
        ("plain.safetensors", {"to": "timm", "precision": "fp16"}, "plain float32"),
        ("plain.safetensors", {"to": "keras"}, "must be one of"),
        ("missing/plain.safetensors", {"to": "timm"}, "no folder"),
        ("plain.pt2", {"to": "onnx"}, r"ends in \.onnx"),
    ):
        with pytest.raises((ValueError, OSError), match=said):
            export(staged, tmp_path / name, **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    staged = compose("vitrim_tiny_patch8_96", "LoRA(rank=2)", num_classes=3, image_size=32)
    vitrim.save(staged, tmp_path / "model.safetensors")
    for to, name in (("timm", "timm.safetensors"), ("transformers", "transformers")):
        assert main(["export", str(tmp_path / "model.safetensors"), "--to", to]) == 0
        said = capsys.readouterr().out
        assert name in said and "open it with" in said and "12 of 12 pictures get the same class" in said
        assert (tmp_path / f"{name}.check.json").is_file()
    assert main(["export", str(tmp_path / "model.safetensors"), "--to", "transformers"]) == 2
    assert "is there already" in capsys.readouterr().err
