"""Features of a collection, similarities of all with all, and the best of them matched again by the
text tower that looks at the image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vitrim.checks import check_number, check_positive
from vitrim.retrieval.model import RetrievalModel
from vitrim.retrieval.ranking import Recalls, ranked, recalls
from vitrim.retrieval.towers import Seen

TEXTS_AT_A_TIME = 256


@dataclass(frozen=True)
class Texts:
    """All captions of a collection: token ids and mask [K, L]."""

    ids: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, index: Tensor | slice) -> Texts:
        return Texts(self.ids[index], self.mask[index])


@dataclass(frozen=True)
class Found:
    """What an evaluation found.

    Attributes:
        plain: by similarity of features alone.
        matched: after the best were matched again; None with head="itc".
        similarity: cosines [I, K].
        image_scores, text_scores: what the final ranking is by, [I, K] and [K, I]; -inf where a pair
        was not
            among the best.
        pairs: how many were matched again.
    """

    plain: Recalls
    matched: Recalls | None
    similarity: Tensor
    image_scores: Tensor
    text_scores: Tensor
    pairs: int = 0

    @property
    def best(self) -> Recalls:
        return self.plain if self.matched is None else self.matched


@torch.inference_mode()
def image_features(model: RetrievalModel, batches: Iterable[Tensor]) -> Tensor:
    """Features of all images: batches [B, 3, height, width] -> [I, C]"""
    device = _device(model)
    return torch.cat([model.towers.see(batch.to(device)).features.cpu() for batch in batches])


@torch.inference_mode()
def text_features(model: RetrievalModel, texts: Texts) -> Tensor:
    """Features of all captions: [K, C]"""
    device = _device(model)
    found = []
    for start in range(0, len(texts), TEXTS_AT_A_TIME):
        part = texts.rows(slice(start, start + TEXTS_AT_A_TIME))
        found.append(model.towers.read(part.ids.to(device), part.mask.to(device)).cpu())
    return torch.cat(found)


def evaluate_retrieval(
    model: RetrievalModel,
    images: Iterable[Tensor],
    texts: Texts,
    image_ids: Sequence[int],
    text_ids: Sequence[int],
    k_test: int = 128,
    beta: float = 0.0,
    cached: bool = True,
) -> Found:
    """Recall both ways over all images and captions.

    With head="itc+itm" the `k_test` most similar captions of every image, and images of every caption, are
    scored by the matching head's logit for "match" plus `beta` times their similarity; all others are -inf.

    Args:
        images: batches [B, 3, height, width] in the order of `image_ids`; gone through once, for matching
            twice, so then no iterator that ends.
        text_ids: the image id of every caption.
        k_test: 128 for Flickr30K and 256 for COCO in the papers.
        beta: 0 in UniAdapter, 1 in BLIP.
        cached: keys and values of an image are computed once for all its captions. False computes them for
            every pair, as the released code does: the same scores, slower.
    """
    check_positive("evaluate_retrieval", "k_test", k_test)
    check_number("evaluate_retrieval", "beta", beta)
    training = model.training
    model.eval()
    try:
        similarity = image_features(model, images) @ text_features(model, texts).T
        plain = recalls(similarity, similarity.T, image_ids, text_ids)
        if model.head == "itc":
            return Found(plain, None, similarity, similarity, similarity.T)
        to_texts, to_images = best_of(similarity, k_test), best_of(similarity.T, k_test)
        chosen = to_texts | to_images.T  # [I, K]: each pair is matched once, whichever side asks
        scores = match_pairs(model, images, texts, chosen, cached) + beta * similarity
    finally:
        model.train(training)
    image_scores = scores.masked_fill(~to_texts, -torch.inf)
    text_scores = scores.T.masked_fill(~to_images, -torch.inf)
    matched = recalls(image_scores, text_scores, image_ids, text_ids)
    return Found(plain, matched, similarity, image_scores, text_scores, int(chosen.sum()))


def best_of(similarity: Tensor, count: int) -> Tensor:
    """Which keys are among the `count` most similar, of equal ones the first: [Q, K] booleans"""
    chosen = torch.zeros_like(similarity, dtype=torch.bool)
    return chosen.scatter_(1, ranked(similarity, count), True)


@torch.inference_mode()
def match_pairs(
    model: RetrievalModel, images: Iterable[Tensor], texts: Texts, chosen: Tensor, cached: bool = True
) -> Tensor:
    """The logit for "match" of all chosen pairs, zero elsewhere: [I, K]"""
    device = _device(model)
    scores = torch.zeros(chosen.shape, dtype=next(model.parameters()).dtype)
    for number, seen in enumerate(_one_by_one(model, images, device)):
        wanted = chosen[number].nonzero()[:, 0]
        looked = model.look(seen) if cached else None
        for start in range(0, len(wanted), TEXTS_AT_A_TIME):
            part = wanted[start : start + TEXTS_AT_A_TIME]
            found = looked if looked is not None else model.look(_repeated(seen, len(part)))
            keys_values = tuple(
                (keys.expand(len(part), -1, -1, -1), values.expand(len(part), -1, -1, -1))
                for keys, values in found
            )
            bias = None if seen.bias is None else seen.bias.expand(len(part), -1)
            read = texts.rows(part)
            logits = model.match(keys_values, bias, read.ids.to(device), read.mask.to(device))
            scores[number, part] = logits[:, 1].cpu()
    return scores


def _one_by_one(model: RetrievalModel, images: Iterable[Tensor], device: torch.device) -> Iterator[Seen]:
    for batch in images:
        seen = model.towers.see(batch.to(device), tokens=True)
        for row in range(len(batch)):
            one = slice(row, row + 1)
            tokens = None if seen.tokens is None else seen.tokens[one]
            yield Seen(seen.features[one], tokens, None if seen.bias is None else seen.bias[one])


def _repeated(seen: Seen, count: int) -> Seen:
    tokens = None if seen.tokens is None else seen.tokens.repeat(count, 1, 1)
    return Seen(seen.features, tokens, seen.bias)


def _device(model: RetrievalModel) -> torch.device:
    return next(model.parameters()).device
