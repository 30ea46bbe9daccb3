"""How large the file of one task becomes, from shapes alone."""

import json
import math

from vitrim.files.saving import saved_tensors
from vitrim.methods.quantising.packing import packed_lengths
from vitrim.network.model import StagedViT

ABOUT_BYTES = 1500  # what a file says of methods, backbone and preprocessing; class names come on top


def file_megabytes(model: StagedViT) -> float:
    """Megabytes of `vitrim.save(model, ...)`, within a few hundred bytes; weights need not be there."""
    rows, end, header = packed_lengths(model), 0, {}
    for name, value in saved_tensors(model).items():
        shape = [rows[name]] if name in rows else list(value.shape)
        start, end = end, end + math.prod(shape) * (1 if name in rows else value.element_size())
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    return (8 + len(json.dumps(header, separators=(",", ":"))) + end + ABOUT_BYTES) / 1e6
