"""The few-shot sets of the NOAH layout (the splits of CoOp): names, class counts, sizes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FewShot:
    name: str  # the folder of NOAH's repository, "standford-cars" as it is spelt there
    title: str
    classes: int
    val: int
    test: int
    folders: tuple[str, ...] = ()  # what else the folder, or the data set in scripts, is called


_SETS = (
    FewShot("fgvc-aircraft", "FGVC-Aircraft", 100, 3_333, 3_333, ("aircraft", "fgvc_aircraft-FS")),
    FewShot("food101", "Food-101", 101, 20_200, 30_300, ("food-101-FS", "food")),
    FewShot("oxford-flowers102", "Oxford Flowers", 102, 1_633, 2_463, ("oxford_flowers-FS", "flowers102")),
    FewShot("oxford-pets", "Oxford Pets", 37, 736, 3_669, ("oxford_pets-FS", "pets", "oxford_iiit_pet")),
    FewShot("standford-cars", "Stanford Cars", 196, 1_635, 8_041, ("stanford_cars-FS", "cars")),
    FewShot("imagenet", "ImageNet", 1_000, 0, 50_000, ("imagenet-FS", "imagenet1k")),  # val is the test set
)

SETS = {each.name: each for each in _SETS}


def all_names(known: FewShot) -> tuple[str, ...]:
    """Every name a folder of the set may have; also without the "-FS" of the scripts."""
    names = (known.name, known.name.replace("standford", "stanford"), *known.folders)
    return tuple(dict.fromkeys([*names, *(name.removesuffix("-FS") for name in names)]))
