"""What FPET's Table A7 (retrieval with BLIP at 384 pixels) costs. The table prints recall, time and
memory of a machine, none of which can be derived; its operations can, and they are what the merge saves.

A pair is a caption that BLIP's text encoder reads with its eyes on an image: per layer, with W the width, L
the tokens of the text and T those of the image,

    self-attention 4 L W^2 + 2 L^2 W,  cross-attention 2 L W^2 + 2 T W^2 + 2 L T W,  feed-forward 8 L W^2

multiply-accumulates. The part 2 T W^2 makes the image's keys and values, which are the same for every
caption: kept, it is paid once for an image instead of once for a pair.
"""

from __future__ import annotations

from dataclasses import dataclass

BACKBONE, MERGE = "vit_base_patch16_384", "Bipartite(at=(6,))"
WIDTH, LAYERS, TEXT_TOKENS, COMPARED = 768, 12, 35, 128


@dataclass(frozen=True)
class RetrievalCosts:
    """Multiply-accumulates of matrix products; norms and the matching of the merge itself are left out.

    Attributes:
        image_tokens: that leave the image encoder, the class token among them.
        image: the image encoder, for one image.
        pair: one caption with one image.
        pair_kept: the same where `COMPARED` captions share the image's keys and values.
    """

    image_tokens: int
    image: int
    pair: int
    pair_kept: float


def pair_macs(width: int, layers: int, text_tokens: int, image_tokens: int) -> int:
    """One caption with one image, keys and values of the image included."""
    text = 14 * text_tokens * width**2 + 2 * text_tokens**2 * width + 2 * text_tokens * image_tokens * width
    return layers * text + keys_values_macs(width, layers, image_tokens)


def keys_values_macs(width: int, layers: int, image_tokens: int) -> int:
    """Keys and values of one image in all layers."""
    return layers * 2 * image_tokens * width**2


def retrieval_costs(merged: bool) -> RetrievalCosts:
    """BLIP-base as Table A7 runs it, plain or with FPET's merge in the image encoder."""
    from vitrim.backbones.shapes import shapes_only
    from vitrim.compose import compose
    from vitrim.measuring.costs import paper_macs_and_tokens

    with shapes_only():
        model = compose(BACKBONE, *([MERGE] if merged else []), num_classes=0)
    macs, tokens = paper_macs_and_tokens(model, spend=True)
    entered = [model.patch_count + 1, *tokens]
    macs -= 5 * model.width * (sum(entered[:-1]) + sum(tokens) + tokens[-1])  # the norms
    for stage, entering in zip(model.stages, entered, strict=False):
        if stage.reducer is not None:
            width, head_width = model.width, model.width // model.vit.blocks[0].attn.num_heads
            macs -= stage.reducer.matching_macs(1, entering - 1, width, head_width)
    left = tokens[-1]
    pair = pair_macs(WIDTH, LAYERS, TEXT_TOKENS, left)
    once = keys_values_macs(WIDTH, LAYERS, left)
    return RetrievalCosts(left, macs, pair, pair - once + once / COMPARED)
