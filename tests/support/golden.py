"""Rebuild the weights and inputs of a golden case from its rules, and read what the official implementation
gave for them."""

import json
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

FOLDER = Path(__file__).parents[1] / "goldens"
EMBEDDINGS = ("cls_token", "pos_embed", "dist_token", "query_token", "q")  # the last: SynQT's queries


class Golden:
    """One case: `about` (the JSON), arrays by name, and generated weights, inputs and labels."""

    def __init__(self, name: str) -> None:
        self.about: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
        self.arrays = np.load(FOLDER / f"{name}.npz")
        self.first_family = "family" in self.about

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(np.asarray(self.arrays[name]))

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    @property
    def config(self) -> dict[str, Any]:
        """The backbone's settings, whichever family."""
        return self.about["vit"] if self.first_family else self.about["config"]

    def images(self) -> Tensor:
        """The input batch, float64."""
        return torch.from_numpy(
            np.random.default_rng(self.about["input_seed"]).standard_normal(self.about["input_shape"])
        )

    def weight(self, name: str) -> Tensor:
        """The generated value of one official parameter."""
        shape = self.about["params"][name]
        constant = self.about.get("constants", {}).get(name)
        if constant is not None:
            return torch.full(shape, constant, dtype=torch.float64)
        return weight(name, shape, self.first_family)

    def weights(self) -> dict[str, Tensor]:
        """All official parameters by official name."""
        return {name: self.weight(name) for name in self.about["params"]}

    def backbone(self) -> nn.Module:
        """The timm model of the case in float64 and evaluation mode, with its generated weights loaded."""
        c = self.config
        kind = VisionTransformerDistilled if c.get("distilled") else VisionTransformer
        vit = kind(
            img_size=c["img_size"],
            patch_size=c.get("patch_size", c.get("patch")),
            embed_dim=c["embed_dim"],
            depth=c["depth"],
            num_heads=c["num_heads"],
            num_classes=c["num_classes"],
            mlp_ratio=c["mlp_ratio"],
            qkv_bias=c["qkv_bias"],
        ).double()
        vit.load_state_dict(
            {name: weight(name, list(p.shape), self.first_family) for name, p in vit.state_dict().items()}
        )
        return vit.eval()


def weight(name: str, shape: list[int], first_family: bool) -> Tensor:
    """The value the protocol generates for a parameter: it depends on name and shape only."""
    return _generated(name, tuple(shape), first_family).clone()


@lru_cache(maxsize=300)  # two models: the tests of one file want the same again and again
def _generated(name: str, shape: tuple[int, ...], first_family: bool) -> Tensor:
    z = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    leaf = name.split(".")[-1]
    if leaf in EMBEDDINGS:
        return torch.from_numpy(0.5 * z)
    if leaf.startswith("ssf_scale"):
        return torch.from_numpy(1 + 0.1 * z)
    if leaf.startswith("ssf_shift") or leaf.endswith("bias"):
        return torch.from_numpy(0.1 * z)
    if len(shape) == 1 and (first_family or leaf == "weight"):
        return torch.from_numpy(1 + 0.1 * z)
    return torch.from_numpy(z / np.sqrt(np.prod(shape[1:])))


def projection(tokens: Tensor) -> Tensor:
    """The first family's per-token checksum: tokens @ u with u from seed 777. [..., D] -> [...]"""
    width = tokens.shape[-1]
    return tokens @ torch.from_numpy(np.random.default_rng(777).standard_normal(width) / np.sqrt(width))


def assert_close(ours: Tensor, golden: Tensor, relative: float = 1e-9) -> None:
    """Equal to `relative` of the golden's largest value; integers exactly."""
    if not golden.dtype.is_floating_point:
        assert torch.equal(ours.to(golden.dtype), golden)
        return
    assert ours.shape == golden.shape, (ours.shape, golden.shape)
    difference = (ours - golden).abs().max().item()
    assert difference <= relative * max(1e-30, golden.abs().max().item()), (
        f"largest difference {difference:.3e}"
    )
