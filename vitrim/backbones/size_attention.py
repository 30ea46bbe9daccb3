"""Attention in proportion to sizes: log sizes added to the products with the keys, as a mask or in channels
of queries and keys.

A mask that is not of zeros and ones keeps CUDA from its fastest kernels, wider heads do not; on a CPU wider
heads took 2.4 to 3 times the time of the mask. So on CUDA, in half precision, the faster of the two is found
by measuring, once for each device, type and shape.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from vitrim.backbones.fastest import fastest

HALF = (torch.float16, torch.bfloat16)
STEP = 8  # of the width of heads that kernels take
Attend = Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]

_faster: dict[tuple[object, ...], str] = {}  # what was measured, in this process


def attend_by_sizes(
    queries: Tensor, keys: Tensor, values: Tensor, log_sizes: Tensor, dropout: float = 0.0
) -> Tensor:
    """What tokens receive, [B, H, T, d], of queries, keys and values [B, H, T, d] with the `log_sizes` [B, 1,
    1, T] of the keys added to the products."""
    given = queries, keys, values, log_sizes, dropout
    if not may_fold(queries):
        return by_mask(*given)
    key = (queries.device, queries.dtype, tuple(queries.shape), keys.shape[2], dropout > 0)
    ways = {name: partial(form, *given) for name, form in FORMS.items()}
    return fastest(_faster, key, ways, queries.device)()


def may_fold(queries: Tensor) -> bool:
    """Whether there is a choice, and time can be taken."""
    return (
        queries.is_cuda
        and queries.dtype in HALF
        and not (torch.compiler.is_compiling() or torch.jit.is_tracing())
        and not torch.cuda.is_current_stream_capturing()
    )


def by_mask(queries: Tensor, keys: Tensor, values: Tensor, log_sizes: Tensor, dropout: float) -> Tensor:
    mask = log_sizes.to(queries.dtype)
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=dropout)


def by_channels(queries: Tensor, keys: Tensor, values: Tensor, log_sizes: Tensor, dropout: float) -> Tensor:
    width = values.shape[-1]
    more = with_log_sizes(queries, keys, values, log_sizes[:, :, 0])
    scale = queries.shape[-1] ** -0.5
    return F.scaled_dot_product_attention(*more, dropout_p=dropout, scale=scale)[..., :width]


FORMS: dict[str, Attend] = {"mask": by_mask, "channels": by_channels}


def with_log_sizes(
    queries: Tensor, keys: Tensor, values: Tensor, log_sizes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [..., d] with more channels, by which `log_sizes` [...] are added to the
    products with the keys divided by sqrt(d).

    Two channels do it: 1 in queries, sqrt(d) log size in keys, as far as the precision of keys goes, and what
    it rounds off. The others are zeros, up to a width that kernels take; what is received in them is zero
    too.
    """
    width = queries.shape[-1]
    more = -(width + 2) % STEP
    exact = (log_sizes * width**0.5)[..., None]
    rounded = exact.to(keys.dtype)
    rest = (exact - rounded.to(exact.dtype)).to(keys.dtype)
    ones = torch.ones_like(queries[..., :2])
    added = torch.cat([rounded, rest], dim=-1).expand(*keys.shape[:-1], 2)
    return (
        F.pad(torch.cat([queries, ones], dim=-1), (0, more)),
        F.pad(torch.cat([keys, added], dim=-1), (0, more)),
        F.pad(values, (0, 2 + more)),
    )
