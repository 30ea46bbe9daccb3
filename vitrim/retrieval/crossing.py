"""The text encoder of BLIP, which can look at an image: self-attention, cross-attention to the image's
tokens, feed-forward. Layers of transformers are called part by part, so that the image's keys and
values can be computed once for all texts it is compared with, and UniAdapter finds its places.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.retrieval.text import TextTower, check_length
from vitrim.retrieval.uniadapter import UniAdapter, UniAdapters

KeysValues = tuple[tuple[Tensor, Tensor], ...]  # of every layer, each [B, H, T, d]
BLIP_ENC = 30_523  # [ENC] of BLIP's vocabulary of 30,524


class CrossModalText(TextTower):
    """`transformers.BlipTextModel` as a text tower with cross-attention.

    Attributes:
        enc_token: the id that takes the place of the first token where the text looks at an image; BLIP's
            retrieval is trained so. None leaves the text as it is.
        uniadapter: the shared bottlenecks, where there are any.
    """

    crosses = True

    def __init__(self, model: nn.Module, enc_token: int | None = BLIP_ENC, length: int = 35) -> None:
        config: Any = model.config
        super().__init__(config.hidden_size, length, "first")
        if length > config.max_position_embeddings:
            raise ValueError(
                f"captions of {length} tokens do not fit the text tower, which takes up to "
                f"{config.max_position_embeddings}"
            )
        if enc_token is not None and not 0 <= enc_token < config.vocab_size:
            raise ValueError(
                f"enc_token {enc_token} is outside the text tower's vocabulary of {config.vocab_size}; give "
                "the id of [ENC], or None"
            )
        self.model: Any = model
        self.enc_token = enc_token
        self.uniadapter: UniAdapters | None = None

    @property
    def layers(self) -> Any:
        return self.model.encoder.layer

    def add_uniadapter(self, settings: UniAdapter) -> UniAdapters:
        """Put the text's and the cross-modal branches on all layers."""
        if self.uniadapter is not None:
            raise ValueError("the text tower already carries a UniAdapter; give one")
        like = next(self.model.parameters())
        self.uniadapter = UniAdapters(len(self.layers), self.width, settings, like)
        return self.uniadapter

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        check_length(ids, self.length)
        hidden = self.model.embeddings(input_ids=ids)  # [B, L, W]
        bias = padding_bias(mask, hidden.dtype)
        for index in range(len(self.layers)):
            hidden = self.text_layer(index, hidden, bias)
        return hidden

    def text_layer(self, index: int, hidden: Tensor, bias: Tensor) -> Tensor:
        """One layer that reads the text alone: [B, L, W] -> [B, L, W]"""
        layer = self.layers[index]
        attended = layer.attention(hidden, attention_mask=bias)[0]
        fed = layer.feed_forward_chunk(attended)
        return fed if self.uniadapter is None else fed + self.uniadapter.layer(index).text(attended)

    def keys_values(self, tokens: Tensor) -> KeysValues:
        """What every layer's cross-attention reads of images [B, T, D]; the same whatever the text."""
        found = []
        for layer in self.layers:
            part = layer.crossattention.self
            keys, values = part.key(tokens), part.value(tokens)
            if self.uniadapter is not None:
                keys, values = keys + self.uniadapter.keys(tokens), values + self.uniadapter.values(tokens)
            found.append((_split(keys, part), _split(values, part)))
        return tuple(found)

    def fuse(self, ids: Tensor, mask: Tensor, seen: KeysValues, image_bias: Tensor | None) -> Tensor:
        """Hidden states of texts that look at an image each: [B, L] and keys and values of [B] -> [B, L, W]

        `image_bias` [B, T] is added to what every text token attends to: log sizes, -inf for padding.
        """
        check_length(ids, self.length)
        if self.enc_token is not None:
            ids = torch.cat([ids.new_full((len(ids), 1), self.enc_token), ids[:, 1:]], dim=1)
        hidden = self.model.embeddings(input_ids=ids)
        bias = padding_bias(mask, hidden.dtype)
        crossed = None if image_bias is None else image_bias[:, None, None].to(hidden.dtype)
        for index, (keys, values) in enumerate(seen):
            hidden = self.crossed_layer(index, hidden, bias, keys, values, crossed)
        return hidden

    def crossed_layer(
        self,
        index: int,
        hidden: Tensor,
        bias: Tensor,
        keys: Tensor,
        values: Tensor,
        image_bias: Tensor | None,
    ) -> Tensor:
        """One layer that also looks at the image: [B, L, W] -> [B, L, W]"""
        layer = self.layers[index]
        attended = layer.attention(hidden, attention_mask=bias)[0]
        part = layer.crossattention.self
        dropout = part.dropout.p if self.training else 0.0
        queries = _split(part.query(attended), part)  # [B, H, L, d]
        mixed = F.scaled_dot_product_attention(queries, keys, values, image_bias, dropout)
        crossed = layer.crossattention.output(mixed.transpose(1, 2).flatten(2), attended)
        fed = layer.feed_forward_chunk(crossed)
        if self.uniadapter is None:
            return fed
        adapter = self.uniadapter.layer(index)
        return fed + adapter.text(attended) + adapter.crossed(crossed)


def padding_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What keeps attention from padding: zero for tokens, the least number for padding. [B, L] -> [B,
    1, 1, L]"""
    return (1 - mask[:, None, None].to(dtype)) * torch.finfo(dtype).min


def _split(tokens: Tensor, part: Any) -> Tensor:
    """[B, T, W] -> [B, H, T, d]"""
    return tokens.unflatten(-1, (part.num_attention_heads, part.attention_head_size)).transpose(1, 2)
