"""Google's arrays: kernels have inputs first, attention keeps its heads apart, and big_vision stacks
all blocks in one array."""

import re

from torch import Tensor

STACKED = "Transformer/encoderblock/"


def unstack(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """One array for each block and layer, with PyTorch's axes and the same names."""
    apart: dict[str, Tensor] = {}
    for name, value in arrays.items():
        if name.startswith(STACKED):
            rest = name.removeprefix(STACKED)
            apart.update({f"Transformer/encoderblock_{i}/{rest}": part for i, part in enumerate(value)})
        else:
            apart[name] = value
    return {name: _turned(name, value) for name, value in apart.items()}


def _turned(name: str, value: Tensor) -> Tensor:
    value = value.float()
    if re.search(r"/(?:query|key|value)/kernel$", name) and value.ndim == 3:
        return value.flatten(1).T.contiguous()  # [D, H, d] -> [H*d, D]
    if re.search(r"/(?:query|key|value)/bias$", name):
        return value.flatten()
    if name.endswith("/out/kernel") and value.ndim == 3:
        return value.flatten(0, 1).T.contiguous()  # [H, d, D] -> [D, H*d]
    if name.endswith("kernel") and value.ndim == 4:
        return value.permute(3, 2, 0, 1).contiguous()  # [rows, columns, in, out] -> a convolution's
    if name.endswith("kernel") and value.ndim == 2:
        return value.T.contiguous()
    return value


def torch_endings(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """kernel and scale are called weight."""
    return {re.sub(r"\.(?:kernel|scale)$", ".weight", name): value for name, value in tensors.items()}
