"""What SynQT's queries pass before they ask a block: residual maps, and attention among themselves."""

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from vitrim.methods.tuners.synqt import SynQT


class ResidualMap(nn.Module):
    """z + W2 gelu(W1 z), with dropout after each of the two while training."""

    def __init__(self, width: int, hidden: int, dropout: float, like: Tensor) -> None:
        super().__init__()
        self.down = nn.Linear(width, hidden, device=like.device, dtype=like.dtype)
        self.up = nn.Linear(hidden, width, device=like.device, dtype=like.dtype)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.dropout(self.up(self.dropout(F.gelu(self.down(tokens)))))


class SelfQuery(nn.Module):
    """z + a SA(LN z), then z + m A(LN z), with a and m trained."""

    def __init__(self, width: int, settings: "SynQT", like: Tensor) -> None:
        super().__init__()
        self.norm_attention, self.norm_map = norm_like(width, like), norm_like(width, like)
        self.norm_query, self.norm_others = norm_like(width, like), norm_like(width, like)
        small = settings.attention_hidden
        self.query, self.key, self.value, self.out = (ResidualMap(width, small, 0.0, like) for _ in range(4))
        self.map = ResidualMap(width, settings.hidden, settings.dropout, like)
        self.attention_scale = nn.Parameter(like.new_full((1,), settings.attention_scale))
        self.mlp_scale = nn.Parameter(like.new_full((1,), settings.mlp_scale))
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, asking: Tensor) -> Tensor:
        """[B, q, D] -> [B, q, D]"""
        asking = asking + self.attention_scale * self.among(self.norm_attention(asking))
        return asking + self.mlp_scale * self.map(self.norm_map(asking))

    def among(self, asking: Tensor) -> Tensor:
        """Attention of one head among the queries."""
        others = self.norm_others(asking)
        dropout = self.dropout.p if self.training else 0.0
        query, key, value = (  # [B, 1, q, D], scaled by 1 / sqrt(D)
            tokens[:, None]
            for tokens in (self.query(self.norm_query(asking)), self.key(others), self.value(others))
        )
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)[:, 0]
        return self.dropout(self.out(mixed))


def norm_like(width: int, like: Tensor) -> nn.LayerNorm:
    """A layer norm, eps 1e-5, where `like` is."""
    return nn.LayerNorm(width, device=like.device, dtype=like.dtype)


def unread_weights(count: int, like: Tensor) -> nn.Parameter:
    """As many weights as the release holds in a place and never reads."""
    return nn.Parameter(like.new_ones(count))
