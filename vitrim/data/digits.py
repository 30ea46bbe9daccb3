"""digits: 1,797 handwritten digits that come with scikit-learn. Real data, no download: the default.

8x8 grey images of 16 levels (Alpaydin and Kaynak, UCI 1998), given as 8x8 RGB; the transform enlarges them.
The split has VTAB-1k's sizes and never changes: of each class 80 train, 20 val, the rest test, so 800 / 200 /
797, chosen by `shuffled` with seed 0. No `seed` moves it, as none moves that of a published data set.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from PIL import Image

from vitrim.data.source import DataSource, Spec, Split, with_trainval
from vitrim.data.splitting import shuffled

LEVELS = 16  # pixel values are 0 to 16
TRAIN, VAL = 80, 20  # images per class


def open_digits(spec: Spec) -> DataSource:
    spec.allow()
    if spec.rest:
        raise ValueError(f"digits takes nothing after the colon but was given {spec.rest!r}; write digits")
    targets = _bundle().target.tolist()
    chosen: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for digit in range(10):
        names = shuffled([str(index) for index, target in enumerate(targets) if target == digit], seed=0)
        order = [int(name) for name in names]
        chosen["train"] += order[:TRAIN]
        chosen["val"] += order[TRAIN : TRAIN + VAL]
        chosen["test"] += order[TRAIN + VAL :]
    splits = {}
    for split, indices in chosen.items():
        indices.sort()  # back to the order of the bundle, where the classes are mixed
        splits[split] = Split(Digits(), [str(i) for i in indices], [targets[i] for i in indices])
    classes = tuple(str(digit) for digit in range(10))
    note = "stratified split, the same for every seed"
    return DataSource("digits", classes, with_trainval(splits), (note,))


@dataclass(frozen=True)
class Digits:
    """Reads image number `name`. Holds no pixels, so loader processes are sent nothing and load their own."""

    def __call__(self, name: str, _at_least: int | None = None, _channels: int = 3) -> Image.Image:
        levels = _bundle().images[int(name)]  # [8, 8], floats 0 to 16
        return Image.fromarray((levels * (255 / LEVELS)).round().astype("uint8")).convert("RGB")


@lru_cache(maxsize=1)
def _bundle() -> Any:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "the digits data comes with scikit-learn, which is not installed; "
            "install scikit-learn or choose other data, for example folder:PATH"
        ) from error
    return load_digits()
