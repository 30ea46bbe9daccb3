"""Who opens which kind of segmentation data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vitrim.data.choices import choose
from vitrim.data.source import Spec
from vitrim.data.spec import parse_spec
from vitrim.dense.coco_instances import open_coco
from vitrim.dense.layouts import open_ade20k, open_camvid, open_cityscapes, open_coco_stuff, open_voc
from vitrim.dense.own_folder import open_folder
from vitrim.dense.source import DenseData

DENSE_KINDS: dict[str, Callable[[Spec], DenseData]] = {
    "seg": open_folder,  # seg:PATH         images/, masks/, lists or folders of splits, classes.txt
    "voc": open_voc,  # voc:PATH         PASCAL VOC 2012
    "ade20k": open_ade20k,  # ade20k:PATH      ADEChallengeData2016
    "coco-stuff": open_coco_stuff,  # coco-stuff:PATH  COCO-Stuff 164k
    "cityscapes": open_cityscapes,  # cityscapes:PATH  leftImg8bit and gtFine
    "camvid": open_camvid,  # camvid:PATH      SegNet's or fastai's copy
    "coco": open_coco,  # coco:PATH        COCO's instance files
}


def open_dense_data(spec: str, root: str | Path | None = None, seed: int = 0) -> DenseData:
    """Open a segmentation data set by its spec.

    `root` is what a relative path starts from; `seed` decides the split of data that comes without one,
    unless the spec names a seed itself.

    >>> open_dense_data("seg:road?classes=ground,car").split("val")[0]
    """
    parsed = parse_spec(spec)
    opener = choose("kind of segmentation data", parsed.kind, DENSE_KINDS)
    place = None if root is None else Path(root).expanduser()
    return opener(replace(parsed, root=place, seed=seed))


def is_dense(spec: str) -> bool:
    """Whether a spec is of segmentation data."""
    return spec.strip().partition("?")[0].partition(":")[0] in DENSE_KINDS
