"""NOAH: its supernet as a recipe, and the subnets its authors found for the 19 tasks of VTAB-1K.

The widths are facts of the released files (ZhangYuanhan-AI/NOAH e9c55f36, experiments/NOAH/subnet/VTAB, the
lists under RETRAIN; those under SEARCH_SPACE belong to other searches). For each task prompts, ranks and
widths of blocks 0 to 11.
"""

from vitrim.methods.tuners import NOAH
from vitrim.methods.tuners.subnet import Subnet
from vitrim.settings.recipes.recipe import Recipe

_FOUND = {
    "cifar": ("10 5 10 1 5 1 10 1 10 5 1 10", "10 1 5 5 1 10 1 1 1 10 1 1", "5 10 10 10 5 1 1 1 10 10 10 1"),
    "caltech101": (
        "5 10 1 5 10 1 10 1 10 1 10 1",
        "1 10 10 10 5 10 10 10 5 1 10 1",
        "10 1 5 10 10 1 5 5 10 1 5 10",
    ),
    "dtd": ("10 5 1 1 5 10 5 1 1 5 1 1", "10 5 1 1 5 10 5 1 1 5 1 1", "1 1 1 10 1 1 10 10 10 10 10 1"),
    "oxford_flowers102": (
        "10 10 5 5 1 10 1 5 10 1 5 10",
        "10 10 5 5 1 10 1 5 10 1 5 10",
        "5 1 5 5 1 1 10 5 5 10 5 10",
    ),
    "oxford_iiit_pet": (
        "10 5 5 10 1 10 10 10 10 5 10 10",
        "10 1 1 10 5 1 1 5 10 10 1 10",
        "1 5 5 5 5 10 1 5 10 1 1 5",
    ),
    "svhn": ("10 5 5 10 5 5 5 5 5 5 5 5", "5 5 5 10 5 5 5 10 10 10 10 5", "5 5 5 5 5 10 5 10 5 5 5 5"),
    "sun397": ("5 1 10 5 5 10 1 5 1 1 1 1", "10 10 5 5 1 1 10 1 1 1 1 10", "10 5 1 1 1 10 5 5 1 1 5 1"),
    "patch_camelyon": (
        "10 10 5 10 1 10 10 10 5 1 5 5",
        "10 10 1 10 1 1 5 5 5 1 5 5",
        "5 1 10 5 5 1 1 10 1 5 1 5",
    ),
    "eurosat": (
        "10 10 10 10 10 1 5 5 10 10 5 10",
        "10 1 10 10 1 5 10 1 1 1 10 1",
        "10 10 5 1 10 1 10 5 10 1 10 10",
    ),
    "resisc45": ("5 5 10 1 5 1 5 10 1 1 5 1", "10 10 5 5 5 10 10 10 1 5 1 5", "5 5 5 1 5 1 10 5 5 1 5 5"),
    "diabetic_retinopathy": (
        "10 1 5 10 1 5 5 10 5 10 5 5",
        "1 1 10 5 5 10 1 10 10 5 10 1",
        "1 1 5 5 10 10 10 5 1 10 10 1",
    ),
    "clevr_count": (
        "10 1 5 10 5 1 10 5 5 5 10 1",
        "1 1 10 5 10 10 10 1 5 1 10 1",
        "1 10 10 10 10 1 5 10 10 10 1 1",
    ),
    "clevr_dist": (
        "10 1 1 10 5 10 5 1 5 10 5 5",
        "5 1 10 5 10 10 1 1 5 10 1 10",
        "1 1 1 10 1 1 1 10 5 1 10 10",
    ),
    "dmlab": ("1 10 5 1 10 10 5 10 10 1 1 1", "10 5 1 5 10 10 5 5 5 10 10 1", "5 1 5 1 5 1 5 5 5 10 10 10"),
    "kitti": ("1 5 10 1 10 5 1 1 1 5 5 5", "5 10 10 10 1 10 5 5 10 5 10 1", "5 1 10 10 1 10 1 1 5 10 5 5"),
    "dsprites_loc": (
        "5 10 1 10 10 5 5 1 5 5 10 1",
        "1 1 1 1 10 10 1 10 5 1 5 10",
        "1 1 1 10 1 1 10 10 10 10 10 1",
    ),
    "dsprites_ori": (
        "5 5 1 1 10 5 1 10 10 10 10 10",
        "1 10 1 10 1 5 10 10 5 5 1 5",
        "1 10 10 10 10 1 5 10 10 10 1 1",
    ),
    "smallnorb_azi": (
        "1 10 1 10 1 5 10 10 1 10 10 5",
        "10 5 1 5 1 1 5 5 10 1 1 10",
        "5 1 1 1 5 5 1 10 1 1 5 1",
    ),
    "smallnorb_ele": (
        "10 1 1 1 1 5 10 10 10 10 1 10",
        "10 1 1 1 5 5 10 5 1 10 1 1",
        "1 1 1 10 1 1 10 10 10 10 10 1",
    ),
}  # fmt: skip


RELEASED_SUBNETS: dict[str, Subnet] = {
    task: Subnet(*(tuple(map(int, sizes.split())) for sizes in found)) for task, found in _FOUND.items()
}  # fmt: skip
"""by task of VTAB-1K; `RELEASED_SUBNETS["eurosat"].methods()` is a composition"""


NOAH_RECIPES: dict[str, Recipe] = {
    "noah": Recipe(
        (NOAH(dropout=0.1),),
        "NOAH, arXiv 2206.04673: its supernet; vitrim search --recipe noah finds and trains the subnet",
        "prompts, LoRA and adapters, as wide in each block as the task needs; takes a search",
        "vtab/noah-supernet",
        {"trained": 654_456, "gmacs_paper": 18.621},
    ),
}
