"""Features of a composed model, with the names, arguments and shapes of timm's own calls.

What a reducer took away comes back on the grid by `vitrim.restore`, so that maps have timm's shapes however
few tokens are left.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vitrim.backbones.geometry import prefix_count
from vitrim.checks import check_one_of
from vitrim.tokens.restore import MODES, restore
from vitrim.tokens.state import TokenState

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT


def block_indices(wanted: int | Sequence[int] | None, depth: int) -> list[int]:
    """Blocks as timm counts them: the last n, or those named, negative ones from the end; all for None."""
    if wanted is None:
        return list(range(depth))
    if isinstance(wanted, int):
        if not 1 <= wanted <= depth:
            raise ValueError(f"the last {wanted} blocks were asked for; the backbone has {depth}")
        return list(range(depth - wanted, depth))
    found = [index + depth if index < 0 else index for index in wanted]
    if not found or not all(0 <= index < depth for index in found):
        raise ValueError(
            f"blocks {list(wanted)} were asked for; give indices from 0 to {depth - 1}, or negative ones "
            "from the end"
        )
    return found


def check_form(output_fmt: str, restore: str) -> None:
    """Refuse forms of intermediate features that there are not."""
    check_one_of("forward_intermediates", "output_fmt", output_fmt, ("NCHW", "NLC"))
    check_one_of("forward_intermediates", "restore", restore, (*MODES, "tokens"))


def intermediates(
    model: "StagedViT", states: Sequence[TokenState], output_fmt: str, mode: str, norm: bool, prefix: bool
) -> list[Any]:
    """What is asked for of the states after blocks: maps or tokens, or pairs of these and prefix tokens."""
    shape = grid_map if output_fmt == "NCHW" else patch_tokens
    found: list[Any] = [shape(model, state, norm, mode) for state in states]
    if not prefix or not prefix_count(model.vit):
        return found
    return list(zip(found, (prefix_tokens(model, state, norm) for state in states), strict=True))


def grid_map(model: "StagedViT", state: TokenState, norm: bool, mode: str) -> Tensor:
    """The patches after a block on the original grid: [B, D, rows, columns]"""
    if mode == "tokens":
        raise ValueError("a map needs every patch; give restore='delta', 'copy' or 'knn'")
    full = restore(state, mode)
    return model.vit.norm(full.movedim(1, -1)).movedim(-1, 1) if norm else full


def prefix_tokens(model: "StagedViT", state: TokenState, norm: bool) -> Tensor:
    """[B, P, D], without prompts."""
    own = state.tokens[:, : prefix_count(model.vit)]
    return model.vit.norm(own) if norm else own


def patch_tokens(model: "StagedViT", state: TokenState, norm: bool, mode: str) -> Tensor:
    """[B, N0, D] restored, or with mode "tokens" the [B, N, D] that are left."""
    if mode == "tokens":
        left = state.tokens[:, state.prefix :]
        return model.vit.norm(left) if norm else left
    return grid_map(model, state, norm, mode).flatten(2).transpose(1, 2)
