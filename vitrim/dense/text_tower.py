"""The text tower of a CLIP model in the transformers library, for vocabularies. Optional: any function from
sentences to features does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor


def clip_text(folder: str | Path, batch_size: int = 64) -> Callable[[list[str]], Tensor]:
    """Sentences to features [n, E] by the text tower in a local folder of transformers (config.json, weights
    in safetensors, tokenizer files). Nothing is fetched, and no code of the folder is run."""
    try:
        from transformers import AutoTokenizer, CLIPTextModelWithProjection
    except ImportError as error:
        raise ImportError(
            f"text towers need transformers ({error}); pip install 'vitrim[transformers]'"
        ) from None
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; give that of a CLIP model of transformers")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        tower = CLIPTextModelWithProjection.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        ).eval()
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(
            f"{folder} holds no text tower of CLIP that transformers can open, which takes config.json, "
            f"model.safetensors and the tokenizer's files ({reason})"
        ) from None

    @torch.no_grad()
    def encode(sentences: list[str]) -> Tensor:
        parts = []
        for begin in range(0, len(sentences), batch_size):
            words = tokenizer(
                sentences[begin : begin + batch_size], padding=True, truncation=True, return_tensors="pt"
            )
            parts.append(tower(**words).text_embeds)
        return torch.cat(parts)

    return encode
