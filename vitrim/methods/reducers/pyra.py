"""PYRA: ToMe in every block, with merged patches re-weighted by what little trains for them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor, nn

from vitrim.checks import check_one_of
from vitrim.methods.reducers.matching import merge_most_similar, unit
from vitrim.network.method import Method, option, store_blocks, store_setting
from vitrim.network.parts import Reducer
from vitrim.network.placing import weigh_by_size_after
from vitrim.tokens.attended import Attended
from vitrim.tokens.state import (
    Grouping,
    TokenState,
    at_least_float32,
    regroup,
    remember,
    take_rows,
    without_autocast,
)

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT

# The released schedules, by blocks and whether there is a distillation token: ViT-B, DeiT-B, ViT-L
SCHEDULES: dict[tuple[str, int, bool], tuple[int, ...]] = {
    ("low", 12, False): (*[16] * 11, 10),
    ("high", 12, False): (40, 34, 30, 24, 18, 14, 10, 8, 4, 4, 3, 3),
    ("low", 12, True): (*[16] * 6, *[10] * 6),
    ("high", 12, True): (40, 34, 30, 24, 18, 14, 10, 8, 4, 4, 3, 3),
    ("low", 24, False): (*[8] * 23, 6),
    ("high", 24, False): (
        *(20, 19, 18, 17, 15, 13, 13, 12, 10, 9, 8, 6),
        *(6, 4, 4, 4, 3, 3, 2, 2, 1, 1, 1, 1),
    ),
}  # fmt: skip
NAMES = ("low", "high")


@dataclass(frozen=True, repr=False)
class PYRA(Method):
    """Parallel yielding re-activation (arXiv 2403.09192): ToMe's merge of m patches, modulated.

    With S, R [m, D] the merged patches in order of similarity and their receivers, each times its size, R as
    it was before anything joined it, and a [m, 1], b [1, D] and the norm's weights trained in every block:

        Z = LN(S + R),    w1 = 2 sigmoid(a^T Z)  [1, D],    w2 = 2 sigmoid(Z b^T) - 1  [m, 1]
        S <- S (1 + w1 w2),    R <- (R + sum of its S) / sum of sizes

    LN has eps 1e-5; a starts uniform in -1..1 (Kaiming), b at zero, so w2 is 0 and training starts from plain
    ToMe, bit for bit. m_i + 3 D parameters in block i (ViT-B/16: "low" 27,834, "high" 27,840; 322,746 and
    322,752 with LoRA of rank 8, in either of its forms). LoRA folds, PYRA does not: `a` has one weight for
    each merged patch, so the schedule is fixed once it has trained.

    The released schedules go by depth: "low" is 16 in 11 blocks and 10 in the last of 12 (16 and 10 in six
    blocks each with a distillation token, as DeiT-B), or 8 and 6 of 24 (ViT-L); none was released for ViT-S,
    which gets that of its depth. Where a block is to merge more than half of its patches the release merges
    fewer and leaves weights of `a` unused; here such a schedule is refused. Behind the last block's
    attention a head that reads the class token sees no merging, so the last block's weights stay where they
    start, here as there; end a schedule of your own with 0 to spare them. The paper trains these weights at a
    tenth of LoRA's rate: rates={'reducer': 0.1}. Prompts are prefix tokens here and never merge.

    Attributes:
        schedule: "low", "high", or how many patches each block merges: one number for each, 0 for none.
        proportional: whether attention after the first merge is weighed by size.
        at: indices of the blocks that merge, counted from 0; None for all. The schedule's other numbers do
            not count.
    """

    reduces: ClassVar[bool] = True
    without: ClassVar[Mapping[str, str]] = {
        "budget": "it ranks pairs of tokens, and schedule says how many merge, the same in every image; "
        "EViT and DynamicViT rank tokens and have one"
    }

    schedule: str | tuple[int, ...] = "low"
    proportional: bool = option(True)
    at: tuple[int, ...] | None = option(None)

    def __post_init__(self) -> None:
        store_blocks(self)
        if isinstance(self.schedule, str):
            check_one_of("PYRA", "schedule", self.schedule, NAMES)
            return
        if not isinstance(self.schedule, tuple | list) or not all(map(_is_count, self.schedule)):
            raise ValueError(
                "PYRA: schedule must be 'low', 'high' or whole numbers of at least 0, one for each block, "
                f"got {self.schedule!r}"
            )
        store_setting(self, "schedule", tuple(self.schedule))
        if not any(self.schedule):
            raise ValueError(f"PYRA: schedule merges nothing: {self.schedule!r}; raise one of its numbers")

    @classmethod
    def example(cls, model: "StagedViT") -> Self:
        """Half of the patches merge on their way through all blocks but the last."""
        return cls(schedule=cls.even(model, max(1, model.patch_count // (2 * model.depth))))

    @staticmethod
    def even(model: "StagedViT", each: int) -> tuple[int, ...]:
        """The same number in every block but the last, or half of the patches where fewer are left.

        >>> PYRA.even(compose("vit_base_patch16_224"), 40)
        (40, 40, 40, 38, 19, 9, 5, 2, 1, 1, 0, 0)
        """
        left, counts = model.patch_count, []
        for _ in range(max(model.depth - 1, 1)):
            counts.append(min(each, left // 2))
            left -= counts[-1]
        return (*counts, 0)[: model.depth]

    def first_blocks(self, count: int, depth: int) -> "Method | None":
        if isinstance(self.schedule, str):
            released = [SCHEDULES.get((self.schedule, depth, distilled)) for distilled in (False, True)]
            numbers = next(filter(None, released), None)
            if numbers is None or released[1] not in (None, numbers):
                raise ValueError(
                    f"{self}: this schedule differs between ViT and distilled DeiT; write its {depth} "
                    "numbers to take blocks out"
                )
        else:
            numbers = self.schedule
        at = None if self.at is None else tuple(block for block in self.at if block < count)
        left = numbers[:count]
        merges = any(left if at is None else [left[block] for block in at])
        return replace(self, schedule=left, at=at) if merges else None

    def attach(self, model: "StagedViT") -> None:
        merged = self.merged(model)
        like = next(model.vit.blocks[0].parameters())
        at = [index for index, count in enumerate(merged) if count]
        model.reduce_at(at, [MergeModulated(merged[index], model.width, like) for index in at], by=self)
        if self.proportional:
            weigh_by_size_after(model, at[0])

    def merged(self, model: "StagedViT") -> tuple[int, ...]:
        """How many patches each block merges; refused where the grid has too few."""
        numbers, at = self._numbers(model), model.check_blocks(self.at, self)
        schedule = tuple(count if index in at else 0 for index, count in enumerate(numbers))
        if not any(schedule):
            raise ValueError(
                f"{self}: the schedule merges nothing in these blocks; name others, or other numbers"
            )
        left = model.patch_count
        for index, count in enumerate(schedule):
            if count > left // 2:
                raise ValueError(
                    f"{self}: block {index} is to merge {count} of the {left} patches that reach it, but at "
                    f"most half can join the others; give schedule a tuple of {model.depth} numbers that fit "
                    f"the {model.patch_count} patches of an image"
                )
            left -= count
        return schedule

    def _numbers(self, model: "StagedViT") -> tuple[int, ...]:
        if isinstance(self.schedule, str):
            key = (self.schedule, model.depth, hasattr(model.vit, "head_dist"))
            if key not in SCHEDULES:
                raise ValueError(
                    f"{self}: schedules are published for 12 and 24 blocks, and this backbone has "
                    f"{model.depth}; give a tuple of {model.depth} numbers, such as "
                    f"{type(self).example(model).schedule}"
                )
            return SCHEDULES[key]
        if len(self.schedule) != model.depth:
            raise ValueError(
                f"{self}: {len(self.schedule)} numbers for {model.depth} blocks; give one for each"
            )
        return self.schedule


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


class MergeModulated(Reducer):
    """One block's PYRA step."""

    commutes = False  # modulates what it merges by the tokens themselves
    # In a last block the loss sees none of it, but processes that train together wait for its gradients
    has_penalty = True

    def __init__(self, count: int, width: int, like: Tensor) -> None:
        super().__init__()
        self.count = count
        self.a = nn.Parameter(like.new_empty(count, 1).uniform_(-1, 1))
        self.b = nn.Parameter(like.new_zeros(1, width))
        self.norm = nn.LayerNorm(width, device=like.device, dtype=like.dtype)

    def leaving(self, entering: int) -> int:
        if self.count > entering // 2:
            raise ValueError(
                f"{self.by}: {self.count} of {entering} patches are to merge in one block, but at most half "
                "can join the others; give a schedule of smaller numbers"
            )
        return entering - self.count

    def matching_macs(self, prefix: int, entering: int, width: int, head_width: int) -> int:
        tokens = prefix + entering
        return (tokens + 1) // 2 * (tokens // 2) * head_width + 7 * self.count * width

    def forward(self, state: TokenState, attended: Attended) -> TokenState:
        self.leaving(state.count)  # refuses too few
        with torch.no_grad(), without_autocast(state.tokens.device):
            grouping = merge_most_similar(unit(attended.patch_keys()), state.prefix, self.count)
        modulated = state.replaced(tokens=self.modulated(state, grouping), history=None)
        reduced = regroup(modulated, grouping).replaced(history=state.history)
        return remember(state, reduced, grouping.noted_slots())

    def modulated(self, state: TokenState, grouping: Grouping) -> Tensor:
        """The tokens, those that are to join others times 1 + w1 w2. [B, P+N, D]"""
        source, target = grouping.join, grouping.target
        assert source is not None and target is not None  # merge_most_similar always joins
        receiver = grouping.lead.gather(1, target)  # [B, m]
        patches = state.tokens[:, state.prefix :]
        weighed = [
            take_rows(patches, index) * state.sizes.gather(1, index)[..., None].to(patches.dtype)
            for index in (source, receiver)
        ]  # S, R: [B, m, D]
        z = self.norm(weighed[0] + weighed[1])  # [B, m, D]
        w1 = 2 * (self.a.T @ z).sigmoid()  # [B, 1, D]
        w2 = 2 * (z @ self.b.T).sigmoid() - 1  # [B, m, 1]
        precise = at_least_float32(z.dtype)
        change = take_rows(patches, source) * (w1.to(precise) * w2.to(precise)).to(patches.dtype)
        rows = state.prefix + source  # [B, m]
        if state.by_products:
            places = torch.arange(state.tokens.shape[1], device=rows.device)[:, None]
            return state.tokens + (places == rows[:, None]).to(change.dtype) @ change
        return state.tokens.scatter_add(1, rows[..., None].expand_as(change), change)
