"""The 19 tasks of VTAB-1k: class counts and test sizes are the published ones, never counted from files.

A training list of 1,000 images may miss whole classes, so it cannot tell how many there are.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    name: str  # the folder name most copies use
    group: str  # natural, specialized or structured
    classes: int
    test_images: int
    aliases: tuple[str, ...] = ()  # other folder names in circulation


_TASKS = (
    Task("cifar", "natural", 100, 10_000, ("cifar100", "cifar_100")),
    Task("caltech101", "natural", 102, 6_084),
    Task("dtd", "natural", 47, 1_880),
    Task("oxford_flowers102", "natural", 102, 6_149, ("flowers102",)),
    Task("oxford_iiit_pet", "natural", 37, 3_669, ("oxford_pet", "pets")),
    Task("svhn", "natural", 10, 26_032),
    Task("sun397", "natural", 397, 21_750),
    Task("patch_camelyon", "specialized", 2, 32_768),
    Task("eurosat", "specialized", 10, 5_400),
    Task("resisc45", "specialized", 45, 6_300),
    Task("diabetic_retinopathy", "specialized", 5, 42_670),
    Task("clevr_count", "structured", 8, 15_000, ("clevr-count-all",)),
    Task("clevr_dist", "structured", 6, 15_000, ("closest-object-distance",)),
    Task("dmlab", "structured", 6, 22_735),
    Task("kitti", "structured", 4, 711),
    Task("dsprites_loc", "structured", 16, 73_728),
    Task("dsprites_ori", "structured", 16, 73_728),
    Task("smallnorb_azi", "structured", 18, 12_150),
    Task("smallnorb_ele", "structured", 9, 12_150),
)

TASKS = {task.name: task for task in _TASKS}
ALIASES = {alias.replace("-", "_"): task for task in _TASKS for alias in task.aliases}
NAMES = TASKS | ALIASES  # everything a user may write, in lower case with "_" for "-"
