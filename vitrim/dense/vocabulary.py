"""What patches are compared with: text features of class names, any matrix of features, or the rows of a
classifier."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.dense.classes import ClassTable
from vitrim.dense.templates import TEMPLATES
from vitrim.network.model import StagedViT
from vitrim.writing import write_whole

Encode = Callable[[list[str]], Tensor]  # n sentences to [n, E]


@dataclass(frozen=True)
class Vocabulary:
    """Classes, and the rows that stand for them: several for a class with synonyms.

    Attributes:
        table: the classes.
        rows: [Q, E].
        owner: for each row the number of its class.
        bias: [Q], of a classifier's rows; None for features that are compared by their direction.
        scale: what similarities are multiplied with before the softmax.
    """

    table: ClassTable
    rows: Tensor
    owner: tuple[int, ...]
    bias: Tensor | None = None
    scale: float = 40.0

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or self.rows.shape[0] != len(self.owner):
            raise ValueError(
                f"a vocabulary has a row for each query: {len(self.owner)} queries, rows of shape "
                f"{tuple(self.rows.shape)}"
            )
        lacking = sorted(set(range(len(self.table))) - set(self.owner))
        if lacking or set(self.owner) - set(range(len(self.table))):
            odd = self.table.names[lacking[0]] if lacking else max(self.owner)
            raise ValueError(
                f"every class needs a row of its own, and every row a class: {odd!r} does not fit"
            )

    @staticmethod
    def of_features(names: Sequence[str], features: Tensor) -> Vocabulary:
        """A row of features [classes, E] for each class; several names of a class stand between "; " and
        have a row each."""
        written, owner = _synonyms(names)
        if features.ndim != 2 or features.shape[0] != len(owner):
            raise ValueError(
                f"{len(owner)} names (synonyms included) need as many rows of features, got "
                f"{tuple(features.shape)}"
            )
        return Vocabulary(_table(written, owner), F.normalize(features, dim=-1), owner)

    @staticmethod
    def of_text(
        names: Sequence[str],
        encode: Encode,
        templates: Sequence[str] = TEMPLATES,
        cache: str | Path | None = None,
        called: str = "",
    ) -> Vocabulary:
        """Class names by a text tower: each in every template, normalised, averaged and normalised again.

        Args:
            encode: sentences to features; see `vitrim.dense.text_tower`.
            cache: a safetensors file that keeps the features, for these names, templates and `called`.
            called: the name of the text tower.
        """
        written, owner = _synonyms(names)
        key = hashlib.sha256(json.dumps([written, list(templates), called]).encode()).hexdigest()
        features = None if cache is None else _kept(Path(cache), key)
        if features is None:
            features = torch.stack(
                [_averaged(encode([text.format(name) for text in templates])) for name in written]
            )
            if cache is not None:
                write_whole(Path(cache), to_bytes({"features": features.contiguous()}, {"names": key}))
        return Vocabulary(_table(written, owner), features, owner)

    @staticmethod
    def of_classifier(model: StagedViT, classes: Mapping[str, int | Sequence[int]]) -> Vocabulary:
        """The rows of a backbone's own classifier: for each class one output of it, or several that count as
        synonyms. Logits are what the classifier gives, without a scale."""
        head = model.vit.get_classifier()
        if not isinstance(head, nn.Linear):
            raise ValueError(
                "the backbone has no single linear classifier to take rows of; give features instead"
            )
        outputs: list[int] = []
        owner: list[int] = []
        for number, (name, given) in enumerate(classes.items()):
            members = [given] if isinstance(given, int) else list(given)
            odd = [member for member in members if not 0 <= member < head.out_features]
            if odd or not members:
                raise ValueError(
                    f"class {name!r} names output {odd[0] if odd else 'none'}, but the classifier has "
                    f"outputs 0 to {head.out_features - 1}"
                )
            outputs += members
            owner += [number] * len(members)
        weight = head.weight.detach()
        bias = weight.new_zeros(len(outputs)) if head.bias is None else head.bias.detach()[outputs]
        return Vocabulary(ClassTable(tuple(classes)), weight[outputs], tuple(owner), bias, scale=1.0)

    def to(self, like: Tensor) -> Vocabulary:
        """The same in the precision and on the device of a tensor."""
        bias = None if self.bias is None else self.bias.to(like)
        return replace(self, rows=self.rows.to(like), bias=bias)

    def similarities(self, features: Tensor) -> Tensor:
        """Of every cell with every row: [B, E, rows, columns] -> [B, Q, rows, columns]"""
        if features.shape[1] != self.rows.shape[1]:
            raise ValueError(
                f"patches have {features.shape[1]} features, the vocabulary's rows {self.rows.shape[1]}; "
                "they must come from one pair of image and text towers"
            )
        if self.bias is None:
            features = F.normalize(features, dim=1)
        found = torch.einsum("behw,qe->bqhw", features, self.rows)
        return found if self.bias is None else found + self.bias[:, None, None]

    def probabilities(self, similarities: Tensor) -> Tensor:
        """Softmax over all rows, then the largest of each class: [B, Q, H, W] -> [B, K, H, W]"""
        shares = (self.scale * similarities).softmax(1)
        place = torch.tensor(self.owner, device=shares.device)[None, :, None, None].expand_as(shares)
        empty = shares.new_zeros(shares.shape[0], len(self.table), *shares.shape[2:])
        return empty.scatter_reduce(1, place, shares, "amax")


def _synonyms(names: Sequence[str]) -> tuple[list[str], tuple[int, ...]]:
    """All names with the number of their class."""
    if isinstance(names, str) or not names:
        raise ValueError(f"names must be a list of class names, got {names!r}")
    pairs = [
        (name.strip(), number)
        for number, given in enumerate(names)
        for name in given.split(";")
        if name.strip()
    ]
    return [name for name, _ in pairs], tuple(number for _, number in pairs)


def _table(written: Sequence[str], owner: Sequence[int]) -> ClassTable:
    """Classes called by the first of their names."""
    first = {number: name for name, number in reversed(list(zip(written, owner, strict=True)))}
    return ClassTable(tuple(first[number] for number in sorted(first)))


def _averaged(features: Tensor) -> Tensor:
    return F.normalize(F.normalize(features.detach(), dim=-1).mean(0), dim=-1)


def _kept(file: Path, key: str) -> Tensor | None:
    """The features in a file, where they are of the same names; None otherwise."""
    if not file.exists():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            if (opened.metadata() or {}).get("names") != key:
                return None
            features: Tensor = opened.get_tensor("features")
            return features
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is no file of text features ({error}); name another cache") from None
