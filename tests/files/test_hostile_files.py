"""A saved model whose metadata was damaged or forged is refused in a sentence, before anything is made."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mutations import mutations, refusal
from safetensors.torch import save_file
from toys import toy

import vitrim
from vitrim.cli.main import main
from vitrim.files.saving import read
from vitrim.files.swap import swap
from vitrim.files.variants import load_part
from vitrim.runs.inspecting import inspect

FINISHED = Path(__file__).parents[1] / "data_of_versions" / "2026-11-21" / "finished"


@pytest.fixture(scope="module")
def parts() -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    return read(FINISHED / "model.safetensors")


def written(file: Path, tensors: dict[str, torch.Tensor], about: str) -> Path:
    save_file(tensors, file, metadata={"vitrim": about})
    return file


def test_every_field_is_refused_or_loaded(parts: Any, tmp_path: Path) -> None:
    about, tensors = dict(parts[0]), parts[1]
    about.pop("extra")  # for people to read
    failed, read_well = [], 0
    for what, text in mutations(about):
        file = written(tmp_path / "model.safetensors", tensors, text)
        try:
            inspect(file)
            read_well += 1
            if "weights" not in what:  # a path is followed; nothing of that name is here
                vitrim.load(file)
        except Exception as error:
            try:
                refusal(error)
            except Exception as other:
                failed.append(f"{what}: {other!r}"[:300])
    assert not failed and read_well > 5


FORGED = {
    "classes": (
        {"num_classes": 1_000_000, "classes": None},
        "but its vit.head.weight has 3",
    ),
    "more classes": ({"num_classes": 10**12, "classes": None}, "num_classes is 1000000000000, but"),
    "rank": ({"methods": ["LoRA(rank=100000000)"]}, "far larger than its tensors"),
    "prompts": ({"methods": ["VPT(count=1000000000)"]}, ""),
    "adapter": ({"methods": ["Adapter(width=100000000)"]}, "far larger than its tensors"),
}


@pytest.mark.parametrize("case", FORGED)
@pytest.mark.parametrize("how", ["load", "swap", "load_part"])
def test_nothing_is_allocated_for_a_forged_size(parts: Any, tmp_path: Path, case: str, how: str) -> None:
    (changed, words), (about, tensors) = FORGED[case], parts
    file = written(tmp_path / "model.safetensors", tensors, json.dumps({**about, **changed}))
    model = vitrim.load(FINISHED / "model.safetensors") if how == "swap" else None
    with pytest.raises(ValueError) as caught:
        if model is not None:
            swap(model, file)
        else:
            vitrim.load(file) if how == "load" else load_part(file, "tuners")
    assert words in refusal(caught.value)


def test_a_forged_structure_allocates_nothing(tmp_path: Path) -> None:
    vitrim.save(vitrim.compose(toy(dtype=torch.float32)), tmp_path / "toy.safetensors", include_backbone=True)
    about, tensors = read(tmp_path / "toy.safetensors")
    assert about["backbone"]["architecture"]["arguments"]["embed_dim"] < 1000
    about["backbone"]["architecture"]["arguments"] |= {"embed_dim": 65536, "depth": 512, "num_heads": 1}
    file = written(tmp_path / "model.safetensors", tensors, json.dumps(about))
    with pytest.raises(ValueError, match="far larger than its tensors"):
        vitrim.load(file)


@pytest.mark.parametrize("verb", ["predict", "inspect"])
def test_the_command_says_it_in_one_line(
    parts: Any, tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    about, tensors = parts
    changed = {**about, "preprocess": {**about["preprocess"], "image_size": [10**6, 48]}}
    file = written(tmp_path / "model.safetensors", tensors, json.dumps(changed))
    (tmp_path / "picture.png").write_bytes(b"")
    given = [verb, str(file), *([str(tmp_path / "picture.png")] if verb == "predict" else [])]
    assert main(given) == 2
    said = capsys.readouterr().err
    assert "preprocess.image_size.0 is 1000000, but should be less than or equal to 16384" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("name", ["vitrim_tiny_patch8_96", "vit_tiny_patch16_224"])
def test_images_smaller_than_a_patch_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="7x48 pixels are smaller than one patch"):
        vitrim.compose(name, image_size=(7, 48))
