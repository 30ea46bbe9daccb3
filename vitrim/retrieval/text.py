"""Text towers: token ids in, hidden states out. One of our own for small vocabularies, and any text
encoder of transformers.

L is the length of the padded captions, W the width of the text.
"""

from typing import Any

import torch
from torch import Tensor, nn

from vitrim.checks import check_one_of, check_positive

POOLINGS = ("first", "last", "mean", "own")


class TextTower(nn.Module):
    """What `RetrievalModel` needs of the text side. Subclasses define `forward`; those that can look at
    images (`vitrim.retrieval.crossing`) say so by `crosses`."""

    crosses = False

    def __init__(self, width: int, length: int, pooling: str) -> None:
        super().__init__()
        check_one_of("text tower", "pooling", pooling, POOLINGS)
        self.width, self.length, self.pooling = width, length, pooling

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Hidden states of token ids [B, L] with a mask of ones for tokens and zeros for padding: [B,
        L, W]"""
        raise NotImplementedError

    def features(self, ids: Tensor, mask: Tensor) -> Tensor:
        """One vector for each caption: [B, W]"""
        return pooled(self(ids, mask), mask, self.pooling)


def pooled(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """The first token's state, the last one's before the padding, or the mean over tokens ("own" is the
    model's): [B, L, W] -> [B, W]"""
    if pooling == "first":
        return hidden[:, 0]
    if pooling == "last":
        last = (mask != 0).sum(1).clamp(min=1) - 1  # [B]
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    share = mask[..., None].to(hidden.dtype)
    return (hidden * share).sum(1) / share.sum(1).clamp(min=1)


class WordTower(TextTower):
    """A small Transformer over a vocabulary of words, trained from nothing: for toys, tests and
    captions of a narrow domain. Pre-norm layers of torch, learned places, the mean over the words."""

    def __init__(
        self, words: int, width: int = 128, depth: int = 2, heads: int = 4, length: int = 35
    ) -> None:
        for name, value in (("words", words), ("width", width), ("depth", depth), ("heads", heads)):
            check_positive("WordTower", name, value)
        check_positive("WordTower", "length", length)
        if width % heads:
            raise ValueError(f"WordTower: {heads} heads do not divide the width {width}")
        super().__init__(width, length, "mean")
        self.settings = {"words": words, "width": width, "depth": depth, "heads": heads, "length": length}
        self.embed = nn.Embedding(words, width)
        self.places = nn.Parameter(torch.empty(length, width))
        nn.init.normal_(self.embed.weight, std=0.02)
        nn.init.normal_(self.places, std=0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        check_length(ids, self.length)
        embedded = self.embed(ids) + self.places[: ids.shape[1]]  # [B, L, W]
        return self.layers(embedded, src_key_padding_mask=mask == 0)


class TransformersText(TextTower):
    """A text encoder of transformers: BERT, RoBERTa, DistilBERT, the text halves of CLIP and SigLIP,
    and others that give `last_hidden_state`.

    `pooling` None takes what the model was trained with: CLIP's end token ("last"), SigLIP's own pooling
    ("own": the model's `pooler_output`), the first token of the others. SigLIP reads padding like words.
    """

    def __init__(self, model: nn.Module, pooling: str | None = None, length: int | None = None) -> None:
        config: Any = model.config
        most = getattr(config, "max_position_embeddings", 512)
        kind = getattr(config, "model_type", "")
        self.reads_padding = kind.startswith("siglip")
        found = pooling or ("own" if self.reads_padding else "last" if kind.startswith("clip") else "first")
        super().__init__(config.hidden_size, most if length is None else length, found)
        if self.length > most:
            raise ValueError(
                f"captions of {self.length} tokens do not fit the text tower, which takes up to {most}"
            )
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self._run(ids, mask).last_hidden_state

    def features(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self._run(ids, mask).pooler_output if self.pooling == "own" else super().features(ids, mask)

    def _run(self, ids: Tensor, mask: Tensor) -> Any:
        check_length(ids, self.length)
        return self.model(input_ids=ids, attention_mask=None if self.reads_padding else mask)


def check_length(ids: Tensor, length: int) -> None:
    """Refuse captions with more tokens than a tower takes."""
    if ids.shape[1] > length:
        raise ValueError(f"captions of {ids.shape[1]} tokens do not fit the text tower, which takes {length}")
