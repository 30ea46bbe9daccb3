"""Linear probing: nothing but the classifier trains."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vitrim.network.method import Method

if TYPE_CHECKING:
    from vitrim.network.stage import StagedViT


@dataclass(frozen=True, repr=False)
class Linear(Method):
    """Only the classifier on the frozen backbone trains, as it does beside every other tuner.

    It adds nothing; it is a method so that a recipe, a table or a run can name the baseline.
    """

    folds: ClassVar[bool] = True

    def attach(self, model: "StagedViT") -> None:
        """Nothing to plug in: compose trains the classifier anyway."""
