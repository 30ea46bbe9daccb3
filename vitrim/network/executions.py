"""How a batch of images that keep different counts runs: packed, in sub-batches, padded, or whichever was
faster. All give the same up to rounding."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from vitrim.backbones.bridge import runs_ragged
from vitrim.backbones.fastest import fastest
from vitrim.backbones.places import Places
from vitrim.backbones.support import attentions
from vitrim.network.bucketed import decides, may_split, pass_in_buckets
from vitrim.tokens.padded import in_a_batch, in_a_row
from vitrim.tokens.state import TokenState

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT

EXECUTIONS = ("automatic", "packed", "bucketed", "padded", "measured")
Pass = Callable[[], TokenState]


def pass_all(
    model: "StagedViT",
    state: TokenState,
    places: list[Places],
    rows: int | None,
    states: list[TokenState] | None = None,
    first: int = 0,
) -> TokenState:
    """The state after all blocks from `first` on, as `model.execution` says where there is a choice."""
    every = range(first, model.depth)
    ways: dict[str, Pass] = {"padded": partial(model.pass_blocks, state, places, every, rows, states)}
    if model.execution == "padded" or states is not None or not may_split(model, state):
        return ways["padded"]()
    ways["bucketed"] = partial(pass_in_buckets, model, state, places, every, rows)
    if may_pack(model, places):
        ways["packed"] = partial(pass_packed, model, state, places, every, rows)
    asked = model.execution
    if asked == "automatic":
        asked = "packed" if state.tokens.device.type == "cpu" else "bucketed"
    if asked != "measured":
        return ways.get(asked, ways["bucketed"])()
    tokens = state.tokens
    key = (tokens.device, tokens.dtype, tuple(tokens.shape), rows, first, *ways)
    return fastest(model.faster, key, ways, tokens.device)()


def may_pack(model: "StagedViT", places: list[Places]) -> bool:
    """Whether images may stand in one row: nothing but attention and reducers reads more than one token at a
    time, and attention knows no pairs of tokens."""
    blocks = zip(model.vit.blocks, model.stages, places, strict=True)
    return all(
        place.shared is None
        and all(map(runs_ragged, attentions(block)))
        and not len(stage.after_mixing)
        and not any(
            branch.reads_all or branch.reads_grid or branch.needs_grid
            for branch in (*stage.beside_attention, *stage.beside_mlp)
        )
        for block, stage, place in blocks
    )


def pass_packed(
    model: "StagedViT", state: TokenState, places: list[Places], blocks: range, rows: int | None
) -> TokenState:
    """The state after some of the blocks, as `StagedViT.pass_blocks` gives it: from the first decision on,
    images stand one after the other in one row, so that norms, linear layers and adapters compute no padding.
    """
    first = next((index for index in blocks if decides(model.stages[index])), blocks.stop)
    state = model.pass_blocks(state, places, range(blocks.start, first), rows)
    return in_a_batch(model.pass_blocks(in_a_row(state), places, range(first, blocks.stop), rows))
