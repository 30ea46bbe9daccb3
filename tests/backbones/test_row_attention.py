"""Attention of images of different counts in one row is that of each by itself, however it is computed."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from vitrim.backbones import row_attention
from vitrim.backbones.row_attention import attend_in_rows, has_varlen

LENGTHS = [7, 7, 1, 12, 3]


def projected(width: int = 16, dtype: torch.dtype = torch.float64, asking: int | None = None) -> list[Tensor]:
    """Queries, keys and values of five images, [1, H, S, d] each, and log sizes [1, S]."""
    torch.manual_seed(0)
    rows = [len(LENGTHS) * asking if asking else sum(LENGTHS), sum(LENGTHS), sum(LENGTHS)]
    drawn = [torch.randn(1, count, 3, width, dtype=dtype).transpose(1, 2) for count in rows]
    return [*drawn, torch.randint(1, 20, (1, sum(LENGTHS))).to(dtype).log()]


def behind_a_mask(
    queries: Tensor, keys: Tensor, values: Tensor, sizes: Tensor | None, asking: int | None
) -> Tensor:
    """The same of a padded batch, with softmax written out."""
    asked = LENGTHS if asking is None else [asking] * len(LENGTHS)
    q, k, v = (
        pad_sequence(list(each[0].transpose(0, 1).split(lengths)), batch_first=True).transpose(1, 2)
        for each, lengths in ((queries, asked), (keys, LENGTHS), (values, LENGTHS))
    )
    own = torch.arange(k.shape[2]) < torch.tensor(LENGTHS)[:, None]
    bias = torch.zeros(own.shape, dtype=q.dtype).masked_fill(~own, -torch.inf)
    if sizes is not None:
        bias[own] += sizes[0]
    weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5 + bias[:, None, None]).softmax(-1)
    received = (weights @ v).transpose(1, 2)  # [B, T, H, d]
    own_rows = torch.arange(received.shape[1]) < torch.tensor(asked)[:, None]
    return received[own_rows].transpose(0, 1)[None]


def one_by_one(*rows: Tensor | int, scale: float) -> Tensor:
    """What `torch.nn.attention.varlen` is documented to compute."""
    queries, keys, values, asked, ends, most_asked, most = rows
    assert isinstance(asked, Tensor) and asked.dtype == ends.dtype == torch.int32
    assert (most_asked, most) == (int(asked.diff().max()), int(ends.diff().max()))
    found = []
    for image in range(len(ends) - 1):
        own = slice(int(ends[image]), int(ends[image + 1]))
        q, k, v = (
            each.transpose(0, 1)
            for each in (queries[int(asked[image]) : int(asked[image + 1])], keys[own], values[own])
        )
        found.append(F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(0, 1))
    return torch.cat(found)


@pytest.mark.parametrize("asking", [None, 1, 2])
@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("in_one_call", [False, True])
def test_it_is_that_of_a_padded_batch(
    asking: int | None, sized: bool, in_one_call: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In runs of the same length, and as the kernel for one row is called, which no CPU has."""
    if in_one_call and not has_varlen():
        pytest.skip("this torch has no attention of images in one row")
    if in_one_call:
        monkeypatch.setattr(row_attention, "_is_one_call", lambda *projected: True)
        monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", one_by_one)
    *rows, sizes = projected(asking=asking)
    given = sizes if sized else None
    expected = behind_a_mask(*rows, given, asking)
    found = attend_in_rows(*rows, LENGTHS, given, asking)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the kernel for one row runs on CUDA alone")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("asking", [None, 1])
@pytest.mark.parametrize("sized", [False, True])
def test_one_call_on_cuda(dtype: torch.dtype, asking: int | None, sized: bool) -> None:
    *rows, sizes = (each.cuda() for each in projected(64, torch.float32, asking))
    halves = [each.to(dtype) for each in rows]
    assert row_attention._is_one_call(*halves) == has_varlen()
    given = sizes if sized else None
    expected = attend_in_rows(*rows, LENGTHS, given, asking)
    found = attend_in_rows(*halves, LENGTHS, given, asking)
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.03)
