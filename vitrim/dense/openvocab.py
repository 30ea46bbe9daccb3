"""`OpenVocabulary`: segmentation by what words mean, with patches reduced on the way and restored in time.

How its results came about is part of them (`protocol`):

    P0  training-free: reduced and restored against the same model unreduced
    P1  label-free: adapters trained so that restored features and similarities match those of the unreduced
        model, on pictures without labels
    P2  supervised: trained on labelled masks; classes it is measured on may have been among them
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from vitrim.backbones.heads import classify_features, has_attention_pool
from vitrim.checks import check_one_of
from vitrim.dense.heads import resized
from vitrim.dense.model import check_no_side
from vitrim.dense.proxied import BETA, GAMMA, check_can_be_proxied, proxied_last_block
from vitrim.dense.restoring import grid_of_patches
from vitrim.dense.tiling import slide
from vitrim.dense.vocabulary import Vocabulary
from vitrim.network.model import StagedViT
from vitrim.network.placing import placed
from vitrim.tokens.restore import MODES

PROTOCOLS = ("P0", "P1", "P2")


class OpenVocabulary(nn.Module):
    """A CLIP backbone (or any with a linear classifier) that tells every cell by a vocabulary.

    >>> clip = compose("vit_base_patch16_clip_224.openai", EViT(keep=0.7, at=(4, 7)), image_size=336)
    >>> vfm = compose("vit_base_patch8_224.dino", num_classes=0, image_size=336)
    >>> words = Vocabulary.of_text(["sky; clouds", "dog"], clip_text("clip-vit-base-patch16"))
    >>> labels = OpenVocabulary(clip, vfm, vocabulary=words).segment(images, window=336, stride=112)

    Args:
        clip: a composed model that keeps its classifier: CLIP's projection into the space of text. Reducers
            stand before its last block.
        vfm: a composed model whose patches say which cells belong together; None: those of `clip`.
        vocabulary: what cells are compared with.
        restore: "delta", "copy" or "knn", before the last block, whose values must exist on every cell.
        proxied: whether the last block attends as `vfm` says (ProxyCLIP); False runs it as it is.
        beta, gamma: see `vitrim.dense.proxied`.

    Attributes:
        protocol: "P0" until something was trained; see above.
    """

    def __init__(
        self,
        clip: StagedViT,
        vfm: StagedViT | None = None,
        *,
        vocabulary: Vocabulary,
        restore: str = "delta",
        proxied: bool = True,
        beta: float = BETA,
        gamma: float = GAMMA,
    ) -> None:
        super().__init__()
        check_one_of("OpenVocabulary", "restore", restore, MODES)
        check_reads_patches(clip)
        if proxied:
            check_can_be_proxied(clip.vit.blocks[-1])
            for index, part in placed(clip):
                if index == clip.depth - 1:
                    raise ValueError(f"the proxied last block reads every patch, but {part.by} reduces in it")
        elif vfm is not None:
            raise ValueError("proxied=False uses no other model's attention; leave vfm out")
        if vfm is not None and vfm.preprocess.channels != clip.preprocess.channels:
            raise ValueError("clip and vfm take images with different numbers of channels")
        self.clip, self.vfm = clip, vfm
        self.vocabulary = vocabulary.to(next(clip.parameters()))
        self.restore, self.proxied, self.beta, self.gamma = restore, proxied, beta, gamma
        self.protocol = "P0"

    def features(self, images: Tensor) -> Tensor:
        """Cells in the space of the vocabulary: [B, E, rows, columns]"""
        vit, depth = self.clip.vit, self.clip.depth
        state, places = self.clip.begin(images, history=True)
        state = replace(state, history=())
        if not self.proxied:
            state = self.clip.pass_blocks(state, places, range(depth), None)
            cells = grid_of_patches(self.clip, state, self.restore, norm=False)
        else:
            state = self.clip.pass_blocks(state, places, range(depth - 1), None)
            entering = grid_of_patches(self.clip, state, self.restore, norm=False)
            proxy = entering if self.vfm is None else self.proxy(images)
            cells = proxied_last_block(vit.blocks[-1], entering, proxy, self.beta, self.gamma)
        tokens = vit.norm(cells.movedim(1, -1))  # [B, rows, columns, D]
        tokens = vit.fc_norm(tokens) if hasattr(vit, "fc_norm") else tokens
        if self.vocabulary.bias is None:
            tokens = classify_features(vit, tokens)
        return tokens.movedim(-1, 1)

    @torch.no_grad()
    def proxy(self, images: Tensor) -> Tensor:
        """The other model's features of the same pictures, in its own mean and std."""
        assert self.vfm is not None
        ours, theirs = self.clip.preprocess, self.vfm.preprocess

        def column(values: tuple[float, ...]) -> Tensor:
            return torch.tensor(values, dtype=images.dtype, device=images.device)[:, None, None]

        plain = images * column(ours.std) + column(ours.mean)
        images = (plain - column(theirs.mean)) / column(theirs.std)
        found: Tensor = self.vfm.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)[
            0
        ]
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Similarities with every row of the vocabulary at the images' size: [B, Q, height, width]"""
        found = self.vocabulary.similarities(self.features(images))
        return resized(found, (int(images.shape[-2]), int(images.shape[-1])))

    @torch.no_grad()
    def segment(
        self,
        images: Tensor,
        window: int | tuple[int, int] | None = None,
        stride: int | tuple[int, int] | None = None,
        threshold: float = 0.0,
    ) -> Tensor:
        """The class of every pixel [B, height, width]: similarities averaged over windows, softmax, the
        likeliest; the first class where no probability reaches `threshold`."""
        window = self.clip.preprocess.image_size if window is None else window
        shares = self.vocabulary.probabilities(slide(self, images, window, stride))
        best = shares.max(1)
        return torch.where(best.values < threshold, 0, best.indices)


def check_reads_patches(clip: StagedViT) -> None:
    """Refuse backbones whose patches have no place in the space of their classifier."""
    check_no_side(clip)
    if not clip.num_classes or has_attention_pool(clip.vit):
        why = "pools by attention" if has_attention_pool(clip.vit) else "has no classifier or projection"
        raise ValueError(
            f"the backbone {why}, so its patches have no place among words; take one with a linear "
            "projection of its class token or of the mean of its patches, such as CLIP's"
        )
