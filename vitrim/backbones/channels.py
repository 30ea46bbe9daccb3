"""Backbones for images of other than three channels: grey, multispectral, medical."""

from __future__ import annotations

import copy

from timm.models import adapt_input_conv
from torch import nn

from vitrim.backbones.geometry import input_channels, patch_layer
from vitrim.backbones.support import TimmModule


def set_input_channels(vit: TimmModule, channels: int) -> None:
    """Make the projection of patches take so many channels, its weights adapted as timm adapts them: for one
    channel the sum over the three, for more the three in turn, times 3 / channels, so that a grey image
    repeated over all channels gives what it gave before. In place.

    Raises:
        ValueError: for no whole number from 1 on, or a backbone whose patches do not come from one
            convolution.
    """
    if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1:
        raise ValueError(f"in_chans must be a whole number of channels from 1 on, got {channels!r}")
    if channels == input_channels(vit):
        return
    layer = patch_layer(vit)
    if type(layer) is not nn.Conv2d or layer.in_channels != 3 or layer.groups != 1:
        raise ValueError(
            f"in_chans={channels} is for backbones whose patches come from one convolution of 3 channels; "
            f"this {type(vit).__name__} takes {input_channels(vit)} through {type(layer).__name__}: build "
            "the timm model with in_chans and pass it as a module"
        )
    weight = layer.weight
    adapted = copy.deepcopy(layer)
    adapted.in_channels = channels
    adapted.weight = nn.Parameter(
        adapt_input_conv(channels, weight.detach()).to(weight.dtype), requires_grad=weight.requires_grad
    )
    vit.patch_embed.proj = adapted
