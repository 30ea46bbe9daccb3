"""`vitrim export --aot`: a program that a C++ compiler has turned into machine code."""

from pathlib import Path

import pytest
import torch
from toys import images, toy

from vitrim import compose, save
from vitrim.cli.main import main
from vitrim.deploy.exported import open_exported


def test_it_is_said_to_take_long_answers_as_the_model_and_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = compose(toy("average", torch.float32, depth=1), "LoRA(rank=2)", "EViT(keep=0.5, at=(0,))").eval()
    save(model, tmp_path / "model.safetensors", include_backbone=True)
    place = tmp_path / "model.pt2"
    asked = ["export", str(tmp_path / "model.safetensors"), "--to", "pt2", "--aot", "--out", str(place)]
    assert main(asked) == 0
    said = capsys.readouterr()
    assert "takes a minute or more" in said.err and "checked: " in said.out
    program = open_exported(place, trust=True)
    for batch in (1, 3):
        pictures = images(model, batch)
        with torch.no_grad():
            torch.testing.assert_close(program(pictures), model(pictures), rtol=0, atol=1e-5)
    assert main(["inspect", str(place)]) == 0
    assert "machine code" in capsys.readouterr().out
