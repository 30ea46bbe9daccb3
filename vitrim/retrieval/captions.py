"""Captions as the papers clean them, and as token ids."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from vitrim.checks import check_positive

MOST_WORDS = 30  # of a caption; BLIP's
MOST_TOKENS = 35
SPACED = re.compile(r"[.!\"()*#:;~]")
PADDING, UNKNOWN, START = "[PAD]", "[UNK]", "[CLS]"


def normalised(caption: str, most_words: int = MOST_WORDS) -> str:
    """Lower case, the characters . ! " ( ) * # : ; ~ as spaces, single spaces, the first `most_words`
    words.

    >>> normalised('A "red" boat; at sea.')
    'a red boat at sea'
    """
    return " ".join(SPACED.sub(" ", caption.lower()).split()[:most_words])


class Tokenizer(Protocol):
    """Captions to token ids and masks [K, L], padded to one length."""

    length: int

    def __call__(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]: ...

    def to_json(self) -> dict[str, Any]:
        """How to make it again."""


class WordTokenizer:
    """One token a word, for small vocabularies. Words that were not among the training captions are
    [UNK]."""

    def __init__(self, words: Sequence[str], length: int = MOST_TOKENS) -> None:
        check_positive("WordTokenizer", "length", length)
        self.words = (PADDING, UNKNOWN, START, *words)
        if len(set(self.words)) != len(self.words):
            raise ValueError("WordTokenizer: some words are there twice; give each once")
        self.length = length
        self.number = {word: number for number, word in enumerate(self.words)}

    @classmethod
    def of(cls, captions: Iterable[str], length: int = MOST_TOKENS, at_least: int = 1) -> WordTokenizer:
        """The words of these captions that come at least so often, the most frequent first."""
        counts = Counter(word for caption in captions for word in normalised(caption).split())
        kept = [word for word, count in counts.items() if count >= at_least]
        return cls(sorted(kept, key=lambda word: (-counts[word], word)), length)

    def __len__(self) -> int:
        return len(self.words)

    def __call__(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        ids = torch.zeros(len(captions), self.length, dtype=torch.long)
        for row, caption in enumerate(captions):
            words = normalised(caption).split()[: self.length - 1]
            numbers = [self.number[START], *(self.number.get(word, self.number[UNKNOWN]) for word in words)]
            ids[row, : len(numbers)] = torch.tensor(numbers)
        return ids, (ids != 0).long()

    def to_json(self) -> dict[str, Any]:
        return {"kind": "words", "words": list(self.words[3:]), "length": self.length}


class TransformersTokenizer:
    """A tokenizer of transformers, such as `AutoTokenizer.from_pretrained(FOLDER)` gives."""

    def __init__(self, tokenizer: Any, source: str = "", length: int = MOST_TOKENS) -> None:
        check_positive("TransformersTokenizer", "length", length)
        if tokenizer.pad_token_id is None:
            raise ValueError("this tokenizer has no padding token; set tokenizer.pad_token first")
        self.tokenizer, self.source, self.length = tokenizer, source, length

    def __call__(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        found = self.tokenizer(
            [normalised(caption) for caption in captions],
            padding="max_length",
            truncation=True,
            max_length=self.length,
            return_attention_mask=True,
            return_tensors="pt",
        )
        return found["input_ids"], found["attention_mask"]

    def to_json(self) -> dict[str, Any]:
        return {"kind": "transformers", "source": self.source, "length": self.length}
