"""ToMe: in every block, merge the patches that are most similar to another one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import torch

from vitrim.checks import is_number
from vitrim.methods.reducers.matching import merge_most_similar, unit
from vitrim.network.method import Method, option, store_blocks, store_setting
from vitrim.network.parts import Reducer
from vitrim.network.placing import weigh_by_size_after
from vitrim.tokens.attended import Attended
from vitrim.tokens.state import TokenState, regroup, without_autocast

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT


@dataclass(frozen=True, repr=False)
class ToMe(Method):
    """Merge r patches of every block into their most similar partners (arXiv 2210.09461).

    With k the mean over heads of a block's keys, of unit length (before rotary embedding: content, not
    place), A the tokens at even places of the sequence, B those at odd places, N patches and P prefix
    tokens:

        S = A B^T,   the min(r, N // 2) patches of A with the largest max_b S_ab join that b,
        x <- sum(size x) / sum(size),   order: prefix, the rest of A, B

    Later blocks add log(size) to the products with each key. No gradient passes through the matching. On a
    14x14 grid, r=8 in 12 blocks leaves 197 -> 101 tokens; 13: 41; 16: 11. Once N // 2 < r, a block merges N
    // 2: the paper's rule, which lets one schedule serve any image size.

    Where the release differs: it can merge registers and leaves the rest of A in order of similarity for
    models without class token; here all P prefix tokens are left alone and the rest always stays in order.

    Attributes:
        r: patches merged per block. A whole number: the same in every block. A list: one number for each
            block, zero for those it does not reach. A pair (r, inflection), always a tuple: r on average,
            from r (1 - inflection) in the first block to r (1 + inflection) in the last, so (8, -1) runs 16,
            ..., 0.
        proportional: whether attention after the first merge is weighed by size; False for MAE-pretrained
            models.
        keep: instead of r, the share of patches each block keeps, at least one half and below 1.
        at: indices of the blocks that merge, counted from 0, with a whole number r or keep; None for all.
    """

    reduces: ClassVar[bool] = True
    without: ClassVar[Mapping[str, str]] = {
        "budget": "it ranks pairs of tokens, and r or keep says how many merge, the same in every image; "
        "EViT and DynamicViT rank tokens and have one"
    }

    r: int | list[int] | tuple[float, float] | None = 8
    proportional: bool = True
    keep: float | None = option(None)
    at: tuple[int, ...] | None = option(None)

    def __post_init__(self) -> None:
        store_blocks(self)
        if self.keep is not None:
            if not is_number(self.keep) or not 0.5 <= self.keep < 1:
                raise ValueError(
                    "ToMe: keep must be below 1 and at least 0.5, because a block merges at most half of its "
                    f"patches, got {self.keep!r}"
                )
            store_setting(self, "r", None)
        elif self.at is not None and not isinstance(self.r, int):
            raise ValueError(
                f"ToMe: give at with a whole number r or with keep, or r for every block, got {self.at!r} "
                f"and {self.r!r}"
            )
        elif isinstance(self.r, list):
            store_setting(self, "r", list(self.r))
            for count in self.r:
                _check_count(count, f"r must hold whole numbers of at least 0, one per block, got {self.r!r}")
        elif isinstance(self.r, tuple):
            _check_pair(self.r)
        else:
            _check_count(
                self.r, f"r must be a whole number, a list of them or (r, inflection), got {self.r!r}"
            )

    def __hash__(self) -> int:
        return hash(repr(self))

    @classmethod
    def example(cls, model: "StagedViT") -> Self:
        """Half of the patches merge on their way through all blocks: 8 a block on ViT-B/16."""
        return cls(r=max(1, model.patch_count // (2 * model.depth)))

    def first_blocks(self, count: int, depth: int) -> "Method | None":
        if isinstance(self.r, int) or self.keep is not None:
            return super().first_blocks(count, depth)
        left = self.schedule(depth)[:count]
        return replace(self, r=left) if any(left) else None

    def attach(self, model: "StagedViT") -> None:
        if self.keep is not None:
            steps = {index: MergeSimilar(keep=self.keep) for index in model.check_blocks(self.at, self)}
        else:
            schedule, at = self.schedule(model.depth), model.check_blocks(self.at, self)
            steps = {index: MergeSimilar(schedule[index]) for index in at if schedule[index] > 0}
        model.reduce_at(list(steps), list(steps.values()), by=self)
        if self.proportional and steps:
            weigh_by_size_after(model, min(steps))

    def schedule(self, depth: int) -> list[int]:
        """How many patches each of `depth` blocks may merge; zeros where `keep` decides.

        >>> ToMe(r=(8, -1)).schedule(4)
        [16, 10, 5, 0]
        """
        if isinstance(self.r, list):
            if len(self.r) > depth:
                raise ValueError(f"{self}: r lists {len(self.r)} blocks, but the backbone has {depth}")
            return self.r + [0] * (depth - len(self.r))
        if isinstance(self.r, tuple):
            mean, inflection = self.r
            first = int(mean * (1 - inflection))
            slope = (2 * mean - 2 * first) / max(1, depth - 1)
            return [int(first + slope * i) for i in range(depth)]
        return [self.r or 0] * depth


def _check_pair(pair: tuple[float, ...]) -> None:
    if len(pair) != 2 or not all(is_number(value) for value in pair) or pair[0] < 0 or not -1 <= pair[1] <= 1:
        raise ValueError(
            "ToMe: as a tuple, r must be (r, inflection) with r at least 0 and inflection from -1 to 1, "
            f"got {pair!r}; give one number for each block as a list"
        )


def _check_count(value: object, otherwise: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"ToMe: {otherwise}")


class MergeSimilar(Reducer):
    """One block's ToMe step."""

    def __init__(self, r: int = 0, keep: float | None = None) -> None:
        super().__init__()
        self.r, self.keep = r, keep

    def leaving(self, entering: int) -> int:
        merge = self.r if self.keep is None else entering - math.ceil(self.keep * entering)
        return entering - min(merge, entering // 2)

    def matching_macs(self, prefix: int, entering: int, width: int, head_width: int) -> int:
        tokens = prefix + entering
        return (tokens + 1) // 2 * (tokens // 2) * head_width if self.leaving(entering) < entering else 0

    def forward(self, state: TokenState, attended: Attended) -> TokenState:
        merge = state.count - self.leaving(state.count)
        if merge == 0:
            return state
        with torch.no_grad(), without_autocast(state.tokens.device):
            grouping = merge_most_similar(unit(attended.patch_keys()), state.prefix, merge)
        return regroup(state, grouping)
