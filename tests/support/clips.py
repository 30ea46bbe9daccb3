"""A small video model with all weights random, and clips that fit it."""

import torch
from golden import Golden
from torch import Tensor
from toys import toy, wake

from vitrim import Video, VideoModel, compose
from vitrim.backbones.geometry import image_size, input_channels
from vitrim.network.method import Method
from vitrim.video.pooling import AttentivePooling

FRAMES = 3
CROSS = "attentive_blocks.cross_attn"
OFFICIAL = {
    "query": "query_token",
    **{f"norm_{x}.{leaf}": f"attentive_blocks.norm_{x}.{leaf}" for x in "qkv" for leaf in ("weight", "bias")},
    **{f"{x}.weight": f"{CROSS}.{x}.weight" for x in "qkv"},
    **{f"{x}.bias": f"{CROSS}.{x}_bias" for x in "qv"},
    "proj.weight": f"{CROSS}.proj.weight",
    "proj.bias": f"{CROSS}.proj.bias",
}


def fill(pool: AttentivePooling, golden: Golden) -> AttentivePooling:
    """The official weights of a case in ours."""
    with torch.no_grad():
        for name, parameter in pool.named_parameters():
            parameter.copy_(golden.weight(OFFICIAL[name]))
    return pool


def small_clips(video: Video, *methods: Method | str, woken: bool = True, depth: int = 3) -> VideoModel:
    """On a ViT of 24 channels and 64 patches; in evaluation mode."""
    torch.manual_seed(0)
    model = compose(toy(depth=depth), *methods, video=video)
    assert isinstance(model, VideoModel)
    return randomised(model) if woken else model.eval()


def randomised(model: VideoModel) -> VideoModel:
    """With random values in all that was added to the backbone, in evaluation mode."""
    own = {name: value.clone() for name, value in model.state_dict().items() if name in model.base_names}
    wake(model)
    model.load_state_dict(own, strict=False)
    return model.eval()


def clips_for(model: VideoModel, batch: int = 2, frames: int = FRAMES) -> Tensor:
    """[B, C, T, height, width]"""
    like = next(model.vit.parameters())
    shape = batch, input_channels(model.vit), frames, *image_size(model.vit)
    generator = torch.Generator().manual_seed(1)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(like.dtype)
