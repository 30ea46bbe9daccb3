"""What attention is told about the places of tokens, for sequences that were reduced."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from timm.layers import apply_rot_embed_cat
from torch import Tensor
from torch.nn import functional as F

from vitrim.backbones.support import TimmModule, part_of
from vitrim.tokens.ragged import in_one_row
from vitrim.tokens.state import TokenState

Turning = Callable[[Tensor, Tensor], Tensor]  # queries or keys by their places; of the kind that values are


class Places(NamedTuple):
    """What one block's attention gets beside the tokens.

    Attributes:
        rotary: [N0, 2d] or [H, N0, 2d], the table by which queries and keys are turned; of images of many
            sizes [B, 1, N0, 2d] or [B, H, N0, 2d].
        shared: [1, H, P+N0, P+N0] or [H, P+N0, P+N0], a relative position bias that all blocks share.
    """

    rotary: Tensor | None = None
    shared: Tensor | None = None


def relative_bias(
    attention: TimmModule, shared: Tensor | None, state: TokenState, rows: int | None = None
) -> Tensor | None:
    """What timm adds to the product of two tokens for where they sit: [1, H, T, T] or [B, H, T, T], or None.

    Every token counts as sitting on the cell of `state.position`. Prompts have no place and get no bias, the
    backbone's own prefix keeps its rows and columns. With `rows`, only those of the first `rows` tokens.
    """
    table = _whole_table(attention, shared)  # [H, P0+N0, P0+N0]
    if table is None:
        return None
    own = table.shape[-1] - math.prod(state.grid)  # P0, without prompts
    prompts = state.prefix - own
    if state.full and prompts == 0:
        return table[None, :, :rows]
    if prompts:
        table = F.pad(table, (0, 1, 0, 1))  # a place without bias, for prompts
    nowhere = table.shape[-1] - 1
    device, batch = table.device, state.position.shape[0]
    prefix = [*range(own), *[nowhere] * prompts]
    places = torch.tensor(prefix, device=device, dtype=torch.long).expand(batch, -1)
    cells = torch.cat([places, state.position + own], dim=1)  # [B, T]
    return table[:, cells[:, :rows, None], cells[:, None]].transpose(0, 1)


def _whole_table(attention: TimmModule, shared: Tensor | None) -> Tensor | None:
    """The bias between all places of the whole sequence, as timm computes it. [H, P0+N0, P0+N0]"""
    if shared is not None and shared.ndim == 4:
        shared = shared[0]
    if part_of(attention, "rel_pos") is not None:
        return attention.rel_pos.get_bias()[0]  # timm leaves a shared bias out then
    if part_of(attention, "relative_position_bias_table") is None:
        return shared
    own = attention._get_rel_pos_bias()[0]
    return own if shared is None else own + shared


def turning(attention: TimmModule, state: TokenState, places: Places) -> Turning:
    """The rotation of the places that tokens have, if any; it holds no tokens."""
    if places.rotary is None:
        return lambda tokens, like: tokens
    half, prefix = bool(getattr(attention, "rotate_half", False)), state.prefix  # absent before timm 1.0.20
    if state.ragged is not None:
        table, prefix = _table_of_row(places.rotary, state), 0
    else:
        table = places.rotary if state.full else _table_at(places.rotary, state.position)
    return lambda tokens, like: _rotate(tokens, table, prefix, half, like)


def _table_at(rotary: Tensor, position: Tensor) -> Tensor:
    """The rotary table of the cells the tokens sit on: [N0, 2d] -> [B, 1, N, 2d], [H, N0, 2d] -> [B, H, N,
    2d]; of images of many sizes [B, 1 or H, N0, 2d] -> [B, 1 or H, N, 2d]."""
    if rotary.ndim == 4:
        cells = position[:, None, :, None].expand(-1, rotary.shape[1], -1, rotary.shape[3])
        return rotary.gather(2, cells)
    if rotary.ndim == 2:
        return rotary[position][:, None]
    return rotary[:, position].transpose(0, 1)


def _table_of_row(rotary: Tensor, state: TokenState) -> Tensor:
    """The same for images in one row, prefix tokens among them, which are not turned: [N0, 2d] -> [S, 2d],
    [H, N0, 2d] -> [H, S, 2d]."""
    assert state.ragged is not None
    still = rotary.new_zeros((*rotary.shape[:-2], 1, rotary.shape[-1]))
    still[..., rotary.shape[-1] // 2 :] = 1  # sines, then cosines
    cells = F.pad(state.position, (state.prefix, 0), value=rotary.shape[-2])  # [B, T]
    row = in_one_row(cells, state.ragged.lengths(state.prefix))[0]
    return torch.cat([rotary, still], dim=-2).index_select(-2, row)


def _rotate(tokens: Tensor, table: Tensor, prefix: int, half: bool, like: Tensor) -> Tensor:
    """Rotate the patches of [B, H, T, d]; prefix tokens have no place."""
    turned = apply_rot_embed_cat(tokens[:, :, prefix:], table, half=half)
    return torch.cat([tokens[:, :, :prefix], turned], dim=2).type_as(like)
