"""What one block's attention saw, for reducers that rank or match tokens. Nothing is computed before it is
asked for.

The attention itself stays fused (`backbones/bridge.py`); the class row is one extra product of H x 1 x N, and
the keys are there anyway. Rankings run in float32 or better, whatever the model's precision, and carry the
same bias as the attention applied.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vitrim.tokens.ragged import Ragged, by_runs, in_rows, runs
from vitrim.tokens.state import at_least_float32, without_autocast


@dataclass(frozen=True)
class Source:
    """What keys and values were made of, and how: `make(tokens)` gives both again, [B, H, T, d] each."""

    tokens: Tensor
    make: Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Attended:
    """Queries and keys of one block, as its attention used them.

    Attributes:
        queries, keys: [B, H, T, d], after their norms and rotation.
        plain_keys: [B, H, T, d], keys before rotation: similarity of content, not of place; fewer heads where
            several heads of queries share one (grouped queries).
        scale: what the products are multiplied by.
        bias: added to the products, or None: log sizes and padding [B, 1, 1, T], with a relative position
            bias [B, H, T, T].
        prefix: P.
        keep: [B, N], zero for padding, whose queries count for nothing; None where there is none.
        weights: [B, H, T, T], the attention itself where it was not fused (while masks are learned; of
            talking heads each head's softmax, before heads are mixed again), else None.
        subtracted: the share by which every second head's softmax is subtracted from the one before
            (differential attention), else None. Scores then are sizes of the difference, whatever its sign.
        values: [B, H, T, d].
        key_bias: the part of `bias` that is the same for every query: log sizes and padding [B, 1, 1, T], or
            None.
        source: of `keys` and `values`; None where it is not known.
        ragged: of images one after the other in one row, [1, H, S, d], with biases [1, 1, 1, S]; `keep` is
            padded then, and so is all that is asked for. None of a batch.
    """

    queries: Tensor
    keys: Tensor
    plain_keys: Tensor
    scale: float
    bias: Tensor | None
    prefix: int
    keep: Tensor | None = None
    weights: Tensor | None = None
    subtracted: Tensor | None = None
    values: Tensor | None = None
    key_bias: Tensor | None = None
    source: Source | None = None
    ragged: Ragged | None = None

    def from_class_token(self) -> Tensor:
        """Attention of the class token to every patch: softmax over all T tokens per head, then the mean over
        heads. [B, N]"""
        if self.ragged is not None:
            return _padded_scores([run.from_class_token() for run in self.of_runs()])
        return self._strength(slice(0, 1)).mean(1)[:, 0, self.prefix :]

    def received(self) -> Tensor:
        """Attention every patch receives, the mean over heads and all T queries but padding; the whole T x T
        product. [B, N]"""
        if self.ragged is not None:
            return _padded_scores([run.received() for run in self.of_runs()])
        attention = self._strength(slice(None)).mean(1)[:, :, self.prefix :]  # [B, T, N]
        if self.keep is None:
            return attention.mean(1)
        asking = functional.pad(self.keep.to(attention.dtype), (self.prefix, 0), value=1.0)  # [B, T]
        return (asking[:, None] @ attention)[:, 0] / asking.sum(1, keepdim=True)

    def value_lengths(self) -> Tensor:
        """The length of every patch's value, of all heads together. [B, N]"""
        if self.ragged is not None:
            return _padded_scores([run.value_lengths() for run in self.of_runs()])
        assert self.values is not None  # `attend` always gives them
        values = self.values[:, :, self.prefix :]
        return values.to(at_least_float32(values.dtype)).square().sum((1, 3)).sqrt()

    def whole(self) -> Tensor:
        """All of the attention, as it was applied. [B, H, T, T]"""
        return self._attention(slice(None))

    def patch_keys(self) -> Tensor:
        """Keys of the patches, the mean over heads, before rotation. [B, N, d]"""
        keys = self.plain_keys[:, :, self.prefix :]
        return keys.to(at_least_float32(keys.dtype)).mean(1)

    def of_runs(self) -> "list[Attended]":
        """Of images in one row, what each run of images of the same length saw, without copying."""
        assert self.ragged is not None
        of = runs(self.ragged.lengths(self.prefix))
        fields = {name: getattr(self, name) for name in ("queries", "keys", "plain_keys", "values")}
        fields["bias"] = None if self.bias is None else self.bias.transpose(2, 3)
        parts = {name: by_runs(row, of) for name, row in fields.items() if row is not None}
        each = zip(*parts.values(), strict=True)
        found: list[dict[str, Any]] = [dict(zip(parts, run, strict=True)) for run in each]
        for run in found:
            run["key_bias"] = run["bias"] = run["bias"].transpose(2, 3) if "bias" in run else None
        return [replace(self, keep=None, ragged=None, **run) for run in found]

    def in_a_batch(self) -> "Attended":
        """Of images in one row, the same padded to the longest, behind a bias of minus infinity."""
        if self.ragged is None:
            return self
        lengths = self.ragged.lengths(self.prefix)

        def padded(row: Tensor) -> Tensor:
            return in_rows(row.transpose(1, 2), lengths).transpose(1, 2)  # [1, H, S, d] -> [B, H, T, d]

        bias = None if self.bias is None else padded(self.bias.transpose(2, 3)).transpose(2, 3)
        if self.keep is not None:
            absent = functional.pad(self.keep == 0, (self.prefix, 0))[:, None, None]  # [B, 1, 1, T]
            none = torch.zeros_like(absent, dtype=self.keep.dtype) if bias is None else bias
            bias = none.masked_fill(absent, -torch.inf)
        names = ("queries", "keys", "plain_keys", "values")
        rows: dict[str, Any] = {name: padded(getattr(self, name)) for name in names}
        return replace(self, **rows, bias=bias, key_bias=bias, ragged=None)

    def _strength(self, rows: slice) -> Tensor:
        """How strongly some of the queries attend, never negative. [B, H, rows, T]"""
        found = self._attention(rows)
        return found if self.subtracted is None else found.abs()

    def _attention(self, rows: slice) -> Tensor:
        """Softmaxed rows of the attention for some of the queries. [B, H, rows, T]"""
        if self.weights is not None:
            return self.weights[:, :, rows]
        queries, precise = self.queries[:, :, rows], at_least_float32(self.queries.dtype)
        with without_autocast(queries.device):
            asking, keys = (
                (queries.to(precise) * self.scale).flatten(0, 1),
                self.keys.to(precise).flatten(0, 1),
            )
            scores = torch.bmm(asking, keys.transpose(1, 2)).unflatten(0, queries.shape[:2])
            if self.bias is not None:
                bias = self.bias if self.bias.shape[2] == 1 else self.bias[:, :, rows]
                scores = scores + bias.to(precise)
            found = scores.softmax(-1)
            if self.subtracted is None:
                return found
            first, second = found.unflatten(1, (-1, 2)).unbind(2)
            return first - self.subtracted * second


def _padded_scores(parts: Sequence[Tensor]) -> Tensor:
    """Scores of each run, [images, N] each, as one: [B, N], zero for padding."""
    longest = max(scores.shape[1] for scores in parts)
    return torch.cat([functional.pad(scores, (0, longest - scores.shape[1])) for scores in parts])


def beside(several: Sequence[Attended]) -> Attended:
    """What several attentions of one block saw, as one with all their heads."""
    first = several[0]
    weights = [each.weights for each in several if each.weights is not None]
    values = [each.values for each in several if each.values is not None]
    return replace(
        first,
        queries=torch.cat([each.queries for each in several], dim=1),
        keys=torch.cat([each.keys for each in several], dim=1),
        plain_keys=torch.cat([each.plain_keys for each in several], dim=1),
        weights=torch.cat(weights, dim=1) if weights else None,
        values=torch.cat(values, dim=1) if values else None,
        source=None,
    )
