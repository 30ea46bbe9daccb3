"""What `vitrim inspect` says of weights, saved models, runs, adapters and things it has no use for."""

import json
from pathlib import Path

import pytest
import timm
import torch
import transformers

from vitrim import LoRA, compose, save
from vitrim.cli.main import main
from vitrim.files.peft_layout import save_peft
from vitrim.runs.inspecting import inspect

NAME = "vit_tiny_patch16_224"
SHAPE = {
    "hidden_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "image_size": 28,
    "patch_size": 14,
}


def test_weights_of_a_training_program(tmp_path: Path) -> None:
    state = timm.create_model(NAME, img_size=32, num_classes=7).state_dict()
    content = {
        "state_dict": {f"model.{key}": value for key, value in state.items()},
        "optimizer": {"x": torch.ones(2)},
    }
    torch.save(content, tmp_path / "last.ckpt")
    found = dict(inspect(tmp_path / "last.ckpt"))
    assert found["looks like"] == "timm's ViT-Ti/16 (12 blocks of width 192)"
    assert found["classifier"] == "7 classes" and found["found below"] == "state_dict.model"
    assert found["format"].startswith("PyTorch") and found["tensors"].startswith("153 with")
    assert found["passed over"].startswith("1 ")


def test_a_folder_of_transformers(tmp_path: Path) -> None:
    transformers.Dinov2Model(transformers.Dinov2Config(**SHAPE)).save_pretrained(tmp_path)
    found = dict(inspect(tmp_path))
    assert "embed_dim=384" in found["model"] or found["model"].startswith("VisionTransformer")
    assert found["looks like"] == "transformers' DINOv2 ViT-S/14 (2 blocks of width 384)"
    assert found["classifier"] == "none"


def test_a_saved_model_and_a_run(tmp_path: Path) -> None:
    model = compose(NAME, LoRA(rank=2), num_classes=2, image_size=32)
    save(model, tmp_path / "model.safetensors", classes=["cat", "dog"])
    found = dict(inspect(tmp_path / "model.safetensors"))
    assert found["methods"].startswith("LoRA(rank=2") and found["classes"] == "2: cat, dog"
    assert found["backbone"].startswith(f"{NAME}, random") and found["image size"] == "32x32"
    record = {"status": "finished", "settings": {"data": "digits"}, "results": {"top1": 0.5, "split": "test"}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    found = dict(inspect(tmp_path))
    assert found["kind"] == "run folder of vitrim" and found["accuracy"] == "50.00 % of test"
    assert found["classes"] == "2: cat, dog" and found["data"] == "digits"


def test_an_adapter(tmp_path: Path) -> None:
    save_peft(compose(NAME, LoRA(rank=3), num_classes=2, image_size=32), tmp_path / "adapter")
    found = dict(inspect(tmp_path / "adapter"))  # query and value of one fused layer: twice the rank
    assert "PEFT" in found["kind"] and found["rank"] == "6" and found["backbone"] == NAME


def test_what_is_none_of_these(tmp_path: Path) -> None:
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "r.pth")
    assert "no Vision Transformer" in dict(inspect(tmp_path / "r.pth"))["looks like"]
    (tmp_path / "text.txt").write_text("hello")
    for path, words in ((tmp_path / "text.txt", "no weights file"), (tmp_path, "has no run.json")):
        with pytest.raises(ValueError, match=words):
            inspect(path)
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        inspect(tmp_path / "none")


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(timm.create_model(NAME, img_size=32).state_dict(), tmp_path / "w.pth")
    assert main(["inspect", str(tmp_path / "w.pth")]) == 0
    assert "looks like  timm's ViT-Ti/16" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "w.pth"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classifier"] == "1000 classes"
    assert main(["inspect", str(tmp_path / "w.pt")]) == 2
