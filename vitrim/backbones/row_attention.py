"""Attention of images of different counts that stand in one row, each among its own tokens, without padding.

In half precision on CUDA one kernel does all of them (`torch.nn.attention.varlen`); elsewhere each run of
images of the same length is a call of the fused kernel.
"""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from inspect import signature
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from vitrim.backbones.size_attention import HALF, STEP, with_log_sizes
from vitrim.tokens.ragged import by_runs, from_runs, runs

WIDEST = 256  # head that the kernel for one row takes


def attend_in_rows(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Sequence[int],
    log_sizes: Tensor | None = None,
    asking: int | None = None,
) -> Tensor:
    """What each image's tokens receive of its own: [1, H, S, d] each -> [1, H, S, d].

    Args:
        lengths: how many tokens each image has.
        log_sizes: [1, S], added to the products with the keys.
        asking: how many queries each image has, if not one for each token.
    """
    if _is_one_call(queries, keys, values):
        return _in_one_call(queries, keys, values, lengths, log_sizes, asking)
    of_keys = runs(lengths)
    of_queries = of_keys if asking is None else [(images, asking) for images, _ in of_keys]
    given = [by_runs(queries, of_queries), by_runs(keys, of_keys), by_runs(values, of_keys)]
    if log_sizes is not None:
        row = log_sizes[:, None, :, None].to(queries.dtype)  # [1, 1, S, 1]
        given.append([mask.transpose(2, 3) for mask in by_runs(row, of_keys)])  # [images, 1, 1, T] each
    return from_runs([F.scaled_dot_product_attention(*run) for run in zip(*given, strict=True)])


def _is_one_call(queries: Tensor, keys: Tensor, values: Tensor) -> bool:
    """Whether the kernel for one row takes them."""
    return (
        queries.is_cuda
        and queries.dtype in HALF
        and queries.dtype == keys.dtype == values.dtype
        and queries.shape[-1] == values.shape[-1]
        and queries.shape[-1] % STEP == 0
        and queries.shape[-1] + STEP <= WIDEST
        and has_varlen()
        and torch.cuda.get_device_capability(queries.device)[0] >= 8
    )


@cache
def has_varlen() -> bool:
    """Whether this torch brings attention of images in one row, by a scale of one's own (2.10 came without
    that)."""
    if find_spec("torch.nn.attention.varlen") is None:
        return False
    from torch.nn.attention.varlen import varlen_attn

    return "scale" in signature(varlen_attn).parameters


def _in_one_call(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Sequence[int],
    log_sizes: Tensor | None,
    asking: int | None,
) -> Tensor:
    """`attend_in_rows` as one kernel."""
    from torch.nn.attention.varlen import varlen_attn

    width = queries.shape[-1]
    if log_sizes is not None:
        queries, keys, values = with_log_sizes(queries, keys, values, log_sizes[:, None])
    asked = lengths if asking is None else [asking] * len(lengths)
    ends, asked_ends = (
        torch.tensor([*accumulate(each, initial=0)], device=queries.device, dtype=torch.int32)
        for each in (lengths, asked)
    )
    own, theirs, given = (each[0].transpose(0, 1) for each in (queries, keys, values))  # [S, H, d] each
    received: Any = varlen_attn(
        own, theirs, given, asked_ends, ends, max(asked), max(lengths), scale=width**-0.5
    )
    return cast("Tensor", received[..., :width].transpose(0, 1)[None])
