"""Weights and activations in 8 bits, by ONNX Runtime's static quantisation (QDQ, weights per channel)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

CALIBRATION = 64  # pictures of the training split that ranges are read off
MEASURED = 2000  # pictures of the validation split that accuracy is measured on, at most


def quantise(source: Path, target: Path, images: Tensor) -> None:
    """Write the float model `source` in 8 bits; `images` [count, ...] are as the model takes them."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with _without_advice():
        quantize_static(
            str(source),
            str(target),
            _Calibration(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            op_types_to_quantize=["MatMul", "Gemm", "Conv"],
        )


@contextmanager
def _without_advice() -> Iterator[None]:
    """ONNX Runtime advises, through the root logger, to run its own pre-processing; what comes of the file
    without it is measured here.
    """

    def keeps(record: logging.LogRecord) -> bool:
        return "pre-processing before quantization" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(keeps)
    try:
        yield
    finally:
        root.removeFilter(keeps)


class _Calibration:
    """Batches of eight for ONNX Runtime, which asks for `get_next` until it is None."""

    def __init__(self, images: Tensor) -> None:
        self.left = iter(images.split(8))

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self.left, None)
        return None if batch is None else {"images": batch.numpy()}


@torch.inference_mode()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Percent right."""
    right = 0
    for batch, truth in zip(images.split(32), labels.split(32), strict=True):
        right += int((model(batch).argmax(1) == truth).sum())
    return 100 * right / len(labels)
