"""Data: one spec string in, named splits of RGB pictures and integer labels out.

    data = open_data("folder:flowers")            # or "digits", or open_data("vtab:eurosat", root="~/data")
    image, label = data.split("train")[0]         # a PIL RGB image and an int
    tensors = data.split("test").with_transform(eval_transform(model.preprocess))

A new kind of data is one file with an `open_...` function and one row in `KINDS` (spec.py).
Read first: spec.py, then source.py.
Imports only: backbones (what a model wants of a picture) and the ground.
"""

from typing import TYPE_CHECKING

from vitrim.lazy import import_names_when_used

if TYPE_CHECKING:  # imported when first used: tables and lists must not wait for torch
    from vitrim.data.images import ImageError as ImageError
    from vitrim.data.images import read_image as read_image
    from vitrim.data.source import DataSource as DataSource
    from vitrim.data.source import Spec as Spec
    from vitrim.data.source import Split as Split
    from vitrim.data.source import describe as describe
    from vitrim.data.spec import KINDS as KINDS
    from vitrim.data.spec import open_data as open_data
    from vitrim.data.spec import parse_spec as parse_spec
    from vitrim.data.spec import with_task as with_task

import_names_when_used(__name__)
