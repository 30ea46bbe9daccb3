"""The kinds of data by name, known without importing what opens them: a mistyped one is refused at once."""

from pathlib import Path

from vitrim.data.choices import choose

PICTURES = ("digits", "folder", "csv", "vtab", "fgvc", "fewshot", "torchvision", "hf")
CLIPS = ("video", "video-folder", "k400", "ssv2", "ucf101", "hmdb51")
KIND_NAMES = (*PICTURES, *CLIPS)
MASK_KINDS = ("seg", "voc", "ade20k", "coco-stuff", "cityscapes", "camvid", "coco")
"""kinds of segmentation data, which `vitrim.dense` opens"""


def has_masks(spec: str) -> bool:
    """Whether a spec is of segmentation data."""
    return spec.strip().partition("?")[0].partition(":")[0] in MASK_KINDS


def check_kind(spec: str) -> None:
    """Refuse a spec of no known kind, saying what there is, or how to write a folder."""
    kind = spec.strip().partition("?")[0].partition(":")[0]
    if kind in KIND_NAMES or not kind:
        return  # an empty kind is refused where the spec is read
    if kind in MASK_KINDS:
        raise ValueError(
            f"{spec!r} is segmentation data, which vitrim train --task segment takes, and vitrim "
            "evaluate for such runs"
        )
    if Path(spec).expanduser().is_dir():
        raise ValueError(f"{spec!r} is a folder; write folder:{spec} to use it as data")
    choose("kind of data", kind, dict.fromkeys(KIND_NAMES))
