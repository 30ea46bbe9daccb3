"""fvcore as an independent counter."""

import math

import pytest
from torch import Tensor, nn


def fvcore_count(model: nn.Module, batch: Tensor) -> int:
    """fvcore's total for one image; fused attention, which it cannot see, as its two products."""
    analysis = pytest.importorskip("fvcore.nn").FlopCountAnalysis(model, batch[:1])
    analysis.set_op_handle("aten::scaled_dot_product_attention", attention_macs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return int(analysis.total())


def attention_macs(inputs: list, outputs: list) -> int:
    queries, keys = (value.type().sizes() for value in inputs[:2])
    return 2 * math.prod(queries) * keys[-2]
