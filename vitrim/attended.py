"""What one block's attention saw, for reducers that rank or match tokens. Nothing is computed before it is
asked for.

The attention itself stays fused (`timm_bridge.attend`); the class row is one extra product of H x 1 x N, and
the keys are there anyway. Rankings run in float32 or better, whatever the model's precision, and carry the
same bias as the attention applied.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vitrim.state import at_least_float32


@dataclass(frozen=True)
class Attended:
    """Queries and keys of one block, as its attention used them.

    Attributes:
        queries, keys: [B, H, T, d], after their norms and rotation.
        plain_keys: [B, H, T, d], keys before rotation: similarity of content, not of place.
        scale: what the products are multiplied by.
        bias: [B, 1, 1, T] added to the products (log sizes, padding) or None.
        prefix: P.
    """

    queries: Tensor
    keys: Tensor
    plain_keys: Tensor
    scale: float
    bias: Tensor | None
    prefix: int

    def from_class_token(self) -> Tensor:
        """Attention of the class token to every patch: softmax over all T tokens per head, then the mean over
        heads. [B, N]"""
        return self._attention(self.queries[:, :, :1]).mean(1)[:, 0, self.prefix :]

    def received(self) -> Tensor:
        """Attention every patch receives, the mean over heads and over all T queries. [B, N]; needs the whole
        T x T product."""
        return self._attention(self.queries).mean((1, 2))[:, self.prefix :]

    def patch_keys(self) -> Tensor:
        """Keys of the patches, the mean over heads, before rotation. [B, N, d]"""
        keys = self.plain_keys[:, :, self.prefix :]
        return keys.to(at_least_float32(keys.dtype)).mean(1)

    def _attention(self, queries: Tensor) -> Tensor:
        """Softmaxed rows of the attention for some of the queries. [B, H, rows, T]"""
        precise = at_least_float32(queries.dtype)
        with torch.autocast(queries.device.type, enabled=False):
            scores = (queries.to(precise) * self.scale) @ self.keys.to(precise).transpose(-2, -1)
            if self.bias is not None:
                scores = scores + self.bias.to(precise)
            return scores.softmax(-1)
