"""fvcore as an independent counter."""

import math
from unittest.mock import patch

import pytest
from torch import Tensor, nn


def fvcore_count(model: nn.Module, batch: Tensor) -> int:
    """fvcore's total for one image; fused attention, which it cannot see, as its two products."""
    analysis = pytest.importorskip("fvcore.nn").FlopCountAnalysis(model, batch[:1])
    analysis.set_op_handle("aten::scaled_dot_product_attention", attention_macs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    # fvcore hangs a hook on every layer to know where it is; layers with hooks are run whole (they might
    # change what comes out), so the saving in the last block would not be seen.
    with patch("vitrim.backbones.tuned_linear.hooked", return_value=False):
        return int(analysis.total())


def attention_macs(inputs: list, outputs: list) -> int:
    queries, keys = (value.type().sizes() for value in inputs[:2])
    return 2 * math.prod(queries) * keys[-2]
