"""A BLIP retrieval model small enough for tests, every weight random, in float64."""

from typing import Any

import torch
from torch import nn

IMAGE, PATCH, DEPTH, WIDTH, WORDS, ENC = 32, 8, 3, 24, 31, 30


def small_blip(seed: int = 0) -> Any:
    from transformers import BlipConfig, BlipForImageTextRetrieval

    torch.manual_seed(seed)
    shape = {"hidden_size": WIDTH, "intermediate_size": 40, "num_hidden_layers": DEPTH}
    config = BlipConfig(
        vision_config={**shape, "num_attention_heads": 2, "image_size": IMAGE, "patch_size": PATCH},
        text_config={
            **shape, "num_attention_heads": 3, "vocab_size": WORDS, "max_position_embeddings": 16,
            "bos_token_id": 1, "sep_token_id": 2, "eos_token_id": 2,
        },
        image_text_hidden_size=10,
    )  # fmt: skip
    model = BlipForImageTextRetrieval(config).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3 if parameter.ndim > 1 else 0.1)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.normal_(module.weight, mean=1.0, std=0.1)
    return model


def captions(count: int, length: int = 6, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and masks [B, L]; lengths differ."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, WORDS - 1, (count, length), generator=generator)
    mask = (torch.arange(length)[None] < 3 + torch.arange(count)[:, None] % (length - 2)).long()
    return ids * mask, mask


def pictures(count: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, IMAGE, IMAGE, generator=torch.Generator().manual_seed(seed)).double()
