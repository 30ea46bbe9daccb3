"""The supervised contrastive loss, and the two views of an image it is taken on (GPS's score)."""

from typing import TYPE_CHECKING, Any

import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from vitrim.backbones.preprocess import Preprocess

TEMPERATURE = 0.07


def contrastive_loss(features: Tensor, labels: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Supervised contrastive loss (arXiv 2004.11362, eq. 2) of features [B, D], both views among them.

        mean over i of  -1/|P(i)| sum_{p in P(i)} log( exp(z_i z_p / t) / sum_{a != i} exp(z_i z_a / t) )

    z are the features at length one, P(i) the others of the same class; an image has at least its other view.
    """
    directions = F.normalize(features, dim=1)
    products = directions @ directions.t() / temperature  # [B, B]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    logs = products.masked_fill(itself, -torch.inf).log_softmax(1)
    same = (labels[:, None] == labels[None]) & ~itself
    return -(logs.masked_fill(~same, 0).sum(1) / same.sum(1)).mean()


class TwoViews:
    """An image, twice, each time cropped, flipped and coloured at random."""

    def __init__(self, preprocess: "Preprocess") -> None:
        from torchvision.transforms import v2

        if preprocess.channels not in (1, 3):
            raise ValueError(
                f"two views of an image differ in colour, which images of {preprocess.channels} channels "
                "have not; choose another score"
            )
        colour = v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8)
        self.change = v2.Compose(
            [
                v2.RandomResizedCrop(preprocess.image_size, scale=(0.2, 1.0)),
                v2.RandomHorizontalFlip(),
                colour,
                v2.RandomGrayscale(0.2),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(list(preprocess.mean), list(preprocess.std)),
            ]
        )

    def __call__(self, image: Any) -> tuple[Tensor, Tensor]:
        if not isinstance(image, Image):  # an array: 8 bits, grey or RGB
            image = image.picture().convert("RGB")
        return self.change(image), self.change(image)
