"""A model as it leaves: a copy with all folded that folds, and what stands before it if pixels come raw."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitrim.checks import check_one_of
from vitrim.compose import merge
from vitrim.network.budgeting import Budgeted
from vitrim.network.model import StagedViT
from vitrim.network.placing import placed
from vitrim.video.refusing import refuse_clips

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class InferenceModel(nn.Module):
    """Images in, float32 logits out, whatever is computed in between.

    Takes normalised images [B, C, height, width] in float32, or with `raw` pixels [B, height, width, C] from
    0 to 255 in uint8, already of the model's size.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: StagedViT, precision: str, raw: bool) -> None:
        super().__init__()
        self.model = model.to(PRECISIONS[precision])
        self.raw = raw
        preprocess = model.preprocess
        shape = (1, preprocess.channels, 1, 1)
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(preprocess.std).view(shape), persistent=False)
        self.dtype = PRECISIONS[precision]

    def forward(self, images: Tensor) -> Tensor:
        if self.raw:
            images = (images.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        logits: Tensor = self.model(images.to(self.dtype)).float()
        return logits

    def example(self, batch: int) -> Tensor:
        """An input of the right shape and type."""
        preprocess = self.model.preprocess
        height, width = preprocess.image_size
        if self.raw:
            return torch.zeros(batch, height, width, preprocess.channels, dtype=torch.uint8)
        return torch.zeros(batch, preprocess.channels, height, width)


def ready(
    model: StagedViT, precision: str = "fp32", raw: bool = False, portable: bool = False
) -> InferenceModel:
    """A copy of the model, on the CPU, in evaluation mode, with all folded that folds."""
    check_one_of("export", "precision", precision, tuple(PRECISIONS))
    refuse_clips(model, "export")
    refuse_dynamic_counts(model)
    if raw and (model.preprocess.channels not in (1, 3) or model.preprocess.scale is not None):
        raise ValueError(
            f"raw takes 8-bit pixels of 1 or 3 channels, and this model's images have "
            f"{model.preprocess.channels} channels"
            + ("" if model.preprocess.scale is None else f", {model.preprocess.scale:g} counting as 1")
            + "; leave raw out and give normalised images"
        )
    whole = merge(model).cpu().float().eval().requires_grad_(False)
    whole.by_products = portable
    return InferenceModel(whole, precision, raw).eval()


def way_out(model: StagedViT) -> str:
    """What to do with a model whose counts depend on the image."""
    if any(isinstance(part.by, Budgeted) for _, part in placed(model) if not getattr(part, "static", True)):
        return "vitrim.fixed(model), or vitrim export --fixed, gives the schedule of the same mean"
    return "train with a reducer of fixed counts, such as EViT(keep=...), to export"


def refuse_dynamic_counts(model: StagedViT) -> None:
    """How many tokens an image keeps must not depend on the image: exported shapes are fixed."""
    for index, part in placed(model):
        if not getattr(part, "static", True):
            raise ValueError(
                f"{part.by!r}: how many tokens block {index} keeps depends on the image, and exported files "
                f"have fixed shapes; {way_out(model)}"
            )
