"""What a table of similarities is worth: recall at 1, 5 and 10, both ways."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from vitrim.retrieval.losses import same_image

DEPTHS = (1, 5, 10)
AT_A_TIME = 512  # queries


@dataclass(frozen=True)
class Recalls:
    """Shares of queries with a right answer among the first 1, 5 and 10: images that look for their
    captions, and captions that look for their image."""

    image_to_text: tuple[float, ...]
    text_to_image: tuple[float, ...]
    images: int
    texts: int

    @property
    def mean(self) -> float:
        """Mean recall, of all six."""
        both = (*self.image_to_text, *self.text_to_image)
        return sum(both) / len(both)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"mean_recall": self.mean, "depths": list(DEPTHS)}

    def in_words(self) -> str:
        there, back = (
            " / ".join(f"{100 * share:.1f}" for share in way)
            for way in (self.image_to_text, self.text_to_image)
        )
        return f"R@1/5/10 image to text {there}, text to image {back}, mean recall {100 * self.mean:.1f} %"


def ranked(scores: Tensor, count: int | None = None) -> Tensor:
    """Numbers of the keys from best to worst, of equal ones the first first: [Q, K] -> [Q, count]"""
    check_scores(scores)
    return scores.sort(dim=1, descending=True, stable=True).indices[:, :count]


def first_hits(scores: Tensor, ids: Tensor, key_ids: Tensor) -> Tensor:
    """For every query, how many keys stand before the first of its own image: [Q, K] -> [Q]"""
    found = []
    for start in range(0, len(scores), AT_A_TIME):
        part = slice(start, start + AT_A_TIME)
        right = same_image(ids[part], key_ids).gather(1, ranked(scores[part]))  # [q, K]
        if not right.any(1).all():
            lonely = start + int((~right.any(1)).nonzero()[0, 0])
            raise ValueError(f"query {lonely} has nothing in the gallery that belongs to it, so no rank")
        found.append(right.int().argmax(1))
    return torch.cat(found)


def recalls(
    image_scores: Tensor,
    text_scores: Tensor,
    image_ids: Sequence[int] | Tensor,
    text_ids: Sequence[int] | Tensor,
) -> Recalls:
    """From scores of captions for images [I, K] and of images for captions [K, I]; of an image's
    captions the best one counts."""
    owners, owned = torch.as_tensor(image_ids), torch.as_tensor(text_ids)
    check_shapes(image_scores, text_scores, owners, owned)
    there = first_hits(image_scores, owners, owned)
    back = first_hits(text_scores, owned, owners)
    shares = [tuple((ranks < depth).double().mean().item() for depth in DEPTHS) for ranks in (there, back)]
    return Recalls(shares[0], shares[1], len(owners), len(owned))


def check_scores(scores: Tensor) -> None:
    """Refuse what cannot be ranked; pairs that were not scored are -inf."""
    if scores.isnan().any():
        raise ValueError("some similarities are not numbers; the model's weights or inputs are broken")


def check_shapes(image_scores: Tensor, text_scores: Tensor, owners: Tensor, owned: Tensor) -> None:
    wanted = (len(owners), len(owned))
    if image_scores.shape != wanted or text_scores.T.shape != wanted:
        raise ValueError(
            f"scores {tuple(image_scores.shape)} and {tuple(text_scores.shape)} do not fit {wanted[0]} "
            f"images and {wanted[1]} captions"
        )
