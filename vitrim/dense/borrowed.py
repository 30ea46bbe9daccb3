"""Decoders of segmentation-models-pytorch, where they fit a plain ViT: those that read maps at 4, 2, 1 and
1/2 times the grid, that is 1/4 to 1/32 of the image for patches of 16 pixels. Needs the extra `dense`.

Left out: FPN and U-Net double every map and so need grids of even sides; the others read convolutions' first
layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from vitrim.checks import check_one_of
from vitrim.dense.heads import DenseHead
from vitrim.dense.pyramid import TapPyramid

CHANNELS = 256


class BorrowedHead(DenseHead):
    """One of the package's decoders over four taps, and a 1 x 1 convolution."""

    taps = 4

    def __init__(self, name: str, width: int, classes: int) -> None:
        super().__init__()
        check_one_of("DenseModel", "decoder after smp:", name, tuple(DECODERS))
        self.pyramid = TapPyramid(width)
        self.decoder = DECODERS[name](width)
        self.classifier = nn.Conv2d(CHANNELS, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        self.check_batch(maps)
        sizes = self.pyramid(maps)
        finest = sizes[0]
        # It counts sizes from the image itself: two larger ones come first, of which no values are read
        full = finest.new_empty(finest.shape[0], 0, finest.shape[2] * 4, finest.shape[3] * 4)
        half = finest.new_empty(finest.shape[0], 0, finest.shape[2] * 2, finest.shape[3] * 2)
        logits: Tensor = self.classifier(self.decoder([full, half, *sizes]))
        return logits


def _widths(width: int) -> list[int]:
    return [3, 0, width, width, width, width]


def _upernet(width: int) -> nn.Module:
    decoder = _decoders("upernet").UPerNetDecoder(_widths(width), encoder_depth=5, decoder_channels=CHANNELS)
    return decoder


def _segformer(width: int) -> nn.Module:
    decoder = _decoders("segformer").SegformerDecoder(
        _widths(width), encoder_depth=5, segmentation_channels=CHANNELS
    )
    return decoder


def _decoders(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(f"segmentation_models_pytorch.decoders.{name}.decoder")
    except ImportError as error:
        raise ImportError(
            f"decoders of segmentation-models-pytorch are not installed ({error}); "
            "pip install 'vitrim[dense]'"
        ) from None


DECODERS = {"upernet": _upernet, "segformer": _segformer}
