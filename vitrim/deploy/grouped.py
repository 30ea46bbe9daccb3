"""One batch whose rows belong to several adapters: what no adapter has changed is computed once for all rows.

rows of a, b, c ── embedding, blocks nobody changed ──┬─ blocks of a ─> head of a
                                                      ├─ one more shared block ──┬─ blocks of b ─> ...
                                                      │                          └─ blocks of c ─> ...
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from vitrim.backbones.geometry import prefix_count
from vitrim.backbones.heads import classify, rows_read_by_head
from vitrim.network.model import StagedViT
from vitrim.network.stage import Stage
from vitrim.tokens.state import TokenState

AFTER_BLOCKS = ("blocks", "norm", "fc_norm", "head", "head_dist", "head_drop", "attn_pool")


@dataclass(frozen=True)
class Group:
    """The rows of a batch that one model answers.

    Attributes:
        model: the composed model.
        shared: how many of its first blocks are the bare backbone's; None where the embedding is not.
        rows: which rows.
    """

    model: StagedViT
    shared: int | None
    rows: list[int]


def shared_blocks(base: StagedViT, model: StagedViT) -> int | None:
    """How many of a model's first blocks compute what the bare model does, on the same memory; None where
    what goes before the blocks differs already."""
    if not all(_same(one, other) for one, other in zip(_before(base.vit), _before(model.vit), strict=True)):
        return None
    blocks = zip(base.vit.blocks, model.vit.blocks, model.stages, strict=True)
    for index, (one, other, stage) in enumerate(blocks):
        if not (_idle(stage) and _same(one, other)):
            return index
    return model.depth


def grouped_logits(base: StagedViT, images: Tensor, groups: Sequence[Group]) -> list[Tensor]:
    """The logits of every row, each by its group's model. [B, channels, height, width] -> B of [classes]"""
    found: dict[int, Tensor] = {}
    sharing = sorted((group for group in groups if group.shared), key=lambda group: group.shared or 0)
    alone = [group for group in groups if not group.shared]
    if len(sharing) == 1:  # nobody to share with
        alone, sharing = [*alone, *sharing], []
    for group in alone:
        every = len(group.rows) == len(images)
        found.update(zip(group.rows, group.model(images if every else images[group.rows]), strict=True))
    if sharing:
        found.update(_along_the_backbone(base, images, sharing))
    return [found[row] for row in range(len(images))]


def _along_the_backbone(base: StagedViT, images: Tensor, groups: Sequence[Group]) -> dict[int, Tensor]:
    """All rows run the bare blocks; where a group's own blocks begin, its rows leave."""
    found: dict[int, Tensor] = {}
    read, here = rows_read_by_head(base.vit), 0
    left = [row for group in groups for row in group.rows]
    state, places = base.begin(images[left])
    for group in groups:
        until = group.shared or 0
        state = base.pass_blocks(state, places, range(here, until), read)
        here = until
        own = _of_images(state, range(len(group.rows)))  # its rows come first
        own = group.model.pass_blocks(own, places, range(here, group.model.depth), read)
        own = own.without_prompts(prefix_count(base.vit)) if read is None else own
        found.update(zip(group.rows, classify(group.model.vit, own), strict=True))
        state = _of_images(state, range(len(group.rows), len(left)))
        left = left[len(group.rows) :]
    return found


def _of_images(state: TokenState, images: range) -> TokenState:
    """The state of some images, of a state that no reducer or prompt has touched."""
    part = slice(images.start, images.stop)
    names = ("tokens", "sizes", "position", "source")
    return replace(state, **{name: getattr(state, name)[part] for name in names})


def _before(vit: nn.Module) -> list[nn.Module | Tensor | None]:
    """Everything of a backbone that runs before its first block."""
    parts = [part for name, part in vit.named_children() if name not in AFTER_BLOCKS]
    return [*parts, *vit.parameters(recurse=False), *vit.buffers(recurse=False)]


def _idle(stage: Stage) -> bool:
    """Whether nothing is plugged into a block."""
    plugged = (stage.prompts, stage.before, stage.reducer, stage.dispatch)
    branches = (
        stage.beside_attention,
        stage.after_attention,
        stage.beside_mlp,
        stage.after_mlp,
        stage.aside,
        stage.after_mixing,
    )
    return all(part is None for part in plugged) and not any(map(len, branches)) and not stage.proportional


def _same(one: nn.Module | Tensor | None, other: nn.Module | Tensor | None) -> bool:
    """Whether two modules are of the same parts around the same memory."""
    if isinstance(one, nn.Module) and isinstance(other, nn.Module):
        kinds = [[type(part) for part in module.modules()] for module in (one, other)]
        values = [[*module.parameters(), *module.buffers()] for module in (one, other)]
        return (
            kinds[0] == kinds[1]
            and len(values[0]) == len(values[1])
            and all(map(_same_memory, values[0], values[1]))
        )
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return _same_memory(one, other)
    return one is other


def _same_memory(one: Tensor, other: Tensor) -> bool:
    if one.numel() == 0 or one.shape != other.shape:
        return one.shape == other.shape
    return one.data_ptr() == other.data_ptr() and one.stride() == other.stride()
