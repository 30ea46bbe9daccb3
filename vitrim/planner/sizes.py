"""How large the file of one task becomes, from shapes alone."""

import torch
from safetensors.torch import save as to_bytes

from vitrim.files.saving import saved_tensors
from vitrim.methods.quantising.packing import packed_lengths
from vitrim.network.stage import StagedViT

ABOUT_BYTES = 1500  # what a file says of methods, backbone and preprocessing; class names come on top


def file_megabytes(model: StagedViT) -> float:
    """Megabytes of `vitrim.save(model, ...)`, within a few hundred bytes; weights need not be there."""
    rows = packed_lengths(model)
    stand_ins = {
        name: torch.zeros(rows[name], dtype=torch.uint8)
        if name in rows
        else torch.zeros(value.shape, dtype=value.dtype)
        for name, value in saved_tensors(model).items()
    }
    return (len(to_bytes(stand_ins)) + ABOUT_BYTES) / 1e6
