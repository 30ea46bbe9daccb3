"""The five fine-grained data sets that VPT put together, with every name their folders go by.

Class counts are published. The sizes of the splits are those of VPT's appendix as recalled, not found in any
repository: they are compared with what is on disk, and nothing is refused over them.
"""

from dataclasses import dataclass

from vitrim.data.source import DataSource, Spec, Split, size_notes, with_trainval


@dataclass(frozen=True)
class FineGrained:
    name: str
    title: str
    classes: int
    train: int
    val: int
    test: int
    folders: tuple[
        str, ...
    ]  # as VPT, GPS, V-PETL and the original archives call them; capitals do not matter


_SETS = (
    FineGrained("cub", "CUB-200-2011", 200, 5_394, 600, 5_794, ("CUB", "CUB_200_2011", "CUB200")),
    FineGrained("nabirds", "NABirds", 555, 21_536, 2_393, 24_633, ("nabirds",)),
    FineGrained(
        "flowers", "Oxford Flowers", 102, 1_020, 1_020, 6_149, ("OxfordFlowers", "oxfordflower", "flowers102")
    ),
    FineGrained("dogs", "Stanford Dogs", 120, 10_800, 1_200, 8_580, ("StanfordDogs", "dogs120")),
    FineGrained("cars", "Stanford Cars", 196, 7_329, 815, 8_041, ("StanfordCars", "cars196")),
)

SETS = {each.name: each for each in _SETS}


def finished(
    spec: Spec,
    known: FineGrained,
    classes: tuple[str, ...],
    splits: dict[str, Split],
    notes: tuple[str, ...] = (),
) -> DataSource:
    """The data source, with notes on what differs from the published set."""
    published = {"train": known.train, "val": known.val, "test": known.test}
    if "val" not in splits or "val" in spec.options:  # the official training set, or a share we held out
        published = {"test": known.test}
        published["trainval" if "val" in splits else "train"] = known.train + known.val
    found = [*notes, *size_notes(with_trainval(splits), published, known.title)]
    if len(classes) > known.classes:
        raise ValueError(
            f"the lists hold {len(classes)} classes, but {known.title} has {known.classes}; "
            "give the root of this data set, not of another one"
        )
    if len(classes) < known.classes:
        found.append(
            f"the lists hold {len(classes)} classes where {known.title} has {known.classes}: "
            "results are not comparable with published ones"
        )
    return DataSource(str(spec), classes, with_trainval(splits), tuple(found), published)
