"""What parts on blocks that count tokens image by image have in common."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vitrim.methods.budgets.chosen import Chosen, Rule, within
from vitrim.network.method import Method

if TYPE_CHECKING:
    from vitrim.methods.budgets.per_image import PerImage


class CountedPart:
    """A part on one block that keeps as many tokens of each image as the budget of its method says.

    Attributes:
        level: of the budget, None until it is calibrated.
    """

    by: Method
    settings: "PerImage"
    level: float | None

    def adjust(self, settings: Any) -> None:
        """Work with other settings from now on."""
        raise NotImplementedError

    def mean_kept(self, entering: int, start: int) -> int:
        """How many of `entering` tokens, of `start` that the image had, would stay if it were the same number
        of all images."""
        raise NotImplementedError

    def ranked(self, *given: Any) -> Tensor:
        """What the budget counts by, of what `forward` is given: scores, -1 for padding. [B, N]"""
        raise NotImplementedError

    def rule(self) -> Rule:
        """That of its budget. (No property: torch's tracer reads these, of fixed budgets too.)"""
        return self.settings.rules[self.settings.budget]

    def check_ready(self) -> None:
        """Refuse to count by an image where that cannot be."""
        if torch.compiler.is_exporting() or torch.jit.is_tracing():
            raise ValueError(
                f"{self.settings} cannot be exported: how many tokens stay depends on the image; "
                "vitrim.fixed(model) gives the schedule of the same mean"
            )
        if self.level is None:
            raise ValueError(
                f"{self.settings}: the budget is not calibrated yet; call vitrim.fit(model, batches) with "
                "images first (vitrim.train does), or use budget='fixed'"
            )

    def choose(self, scores: Tensor) -> Chosen:
        """How many tokens each image keeps, and which."""
        chosen = self.rule().choose(scores, self.level or 0)
        return within(chosen, scores, self.settings.least, self.settings.most)
