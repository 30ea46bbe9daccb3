"""A backbone and data small enough that a whole training run takes a second."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from vitrim.training.loop import Run, train

METHODS = ("LoRA(rank=2, dropout=0.2)", "EViT(keep=0.7, at=(1, 2))")


def toy_vit(depth: int = 4) -> VisionTransformer:
    """The same random weights at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return VisionTransformer(
            img_size=32, patch_size=8, embed_dim=32, depth=depth, num_heads=2, num_classes=0
        )


def colour_folder(folder: Path, per_class: int = 16) -> str:
    """Pictures of three colours, noisy: a data set any classifier learns. Returns its spec."""
    generator = torch.Generator().manual_seed(0)
    for name, colour in {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (210, 50, 40)}.items():
        (folder / name).mkdir(parents=True)
        for index in range(per_class):
            noise = torch.randint(-30, 30, (24, 24, 3), generator=generator)
            pixels = (torch.tensor(colour) + noise).clamp(0, 255).byte().numpy()
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return f"folder:{folder}"


def small_run(
    out: Path, data: str, resume: bool = False, methods: Sequence[str] = METHODS, **training: Any
) -> Run:
    settings = {"epochs": 4, "batch_size": 8, "lr": 1e-2, "augment": "rand", **training}
    return train(
        toy_vit(), data, methods=methods, out=out, training=settings, resume=resume, cpu=True, quiet=True
    )


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)
