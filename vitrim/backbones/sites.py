"""Where methods can act on a backbone: its linear, norm and patch layers by what they do, not by what timm
calls them.

The same LoRA then works on a fused `qkv` and on EVA-02's `q_proj`, `k_proj`, `v_proj`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from vitrim.backbones.geometry import patch_layer, patch_part

if TYPE_CHECKING:
    from vitrim.backbones.support import TimmModule  # timm is imported where it is used


LINEAR_ROLES = ("query", "key", "value", "attention_out", "mlp_in", "mlp_out")
ROLES = (*LINEAR_ROLES, "norm", "patch")
PAIRED_INPUTS = ("fc1_g", "fc1_x", "w0", "w1")  # SwiGLU and ViTamin's GeGLU have two input layers


@dataclass(frozen=True)
class Site:
    """One layer in one role.

    Attributes:
        block: index of the block, None for the patch embedding and the final norm.
        role: one of `ROLES`.
        owner, name: the layer is `getattr(owner, name)`; read it through `layer`, another method may have
            replaced it.
        rows: the output rows of the layer that play this role (a third of a fused qkv, all of other layers).
    """

    block: int | None
    role: str
    owner: nn.Module
    name: str
    rows: slice

    @property
    def layer(self) -> nn.Module:
        """The layer that stands there now."""
        layer = getattr(self.owner, self.name)
        return layer

    @property
    def bias(self) -> nn.Parameter | None:
        """What is added to the layer's outputs in this role, all roles of a fused qkv together, or None.

        EVA keeps query and value biases apart from a bias-free qkv, one for each role; parallel blocks keep
        that of the MLP.
        """
        apart = {"query": "q_bias", "key": "k_bias", "value": "v_bias", "mlp_in": "mlp_bias"}
        kept = getattr(self.owner, apart[self.role], None) if self.role in apart else None
        bias = getattr(self.layer, "bias", None) if kept is None else kept
        return bias if isinstance(bias, nn.Parameter) else None  # timm's key bias is a buffer of zeros

    def put(self, layer: nn.Module) -> None:
        """Put another layer in its place."""
        setattr(self.owner, self.name, layer)

    def __str__(self) -> str:
        return self.role if self.block is None else f"{self.role} of block {self.block}"


def sites(vit: TimmModule) -> Iterator[Site]:
    """Every site of a backbone, from the image to the head."""
    if patch_layer(vit) is not None:
        yield Site(None, "patch", patch_part(vit), "proj", slice(0, vit.embed_dim))
    yield from _norms(None, vit, "norm_pre")
    for index, block in enumerate(vit.blocks):
        yield from _block_sites(index, block)
    yield from _norms(None, vit, "norm", "fc_norm")


def _block_sites(index: int, block: TimmModule) -> Iterator[Site]:
    if hasattr(block, "in_proj"):  # attention and MLP share their input layer
        yield _whole(index, "norm", block, "in_norm")
        yield from _parallel_sites(index, block)
        return
    if hasattr(block, "attns"):  # several of each, beside each other
        attentions = [(each, "norm", each.attn) for each in block.attns]
        mlps = [(each, "norm", each.mlp) for each in block.ffns]
    else:
        attentions, mlps = [(block, "norm1", block.attn)], [(block, "norm2", block.mlp)]
    for find, parts in ((_attention_sites, attentions), (_mlp_sites, mlps)):
        for owner, norm, part in parts:
            yield _whole(index, "norm", owner, norm)
            yield from find(index, part)


def _parallel_sites(index: int, block: TimmModule) -> Iterator[Site]:
    hidden, width = block.in_split[:2]
    for i, role in enumerate(("query", "key", "value")):
        yield Site(index, role, block, "in_proj", slice(hidden + i * width, hidden + (i + 1) * width))
    yield from _norms(index, block, "q_norm", "k_norm")
    yield _whole(index, "attention_out", block, "attn_out_proj")
    yield Site(index, "mlp_in", block, "in_proj", slice(0, hidden))
    yield _whole(index, "mlp_out", block, "mlp_out_proj")


def _attention_sites(index: int, attention: TimmModule) -> Iterator[Site]:
    if getattr(attention, "qkv", None) is None:
        for role, name in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
            yield _whole(index, role, attention, name)
    else:
        width = attention.qkv.out_features // 3
        for i, role in enumerate(("query", "key", "value")):
            yield Site(index, role, attention, "qkv", slice(i * width, (i + 1) * width))
    yield from _norms(index, attention, "q_norm", "k_norm", "sub_norm", "norm")
    yield _whole(index, "attention_out", attention, "proj")


def _mlp_sites(index: int, mlp: TimmModule) -> Iterator[Site]:
    for name in ("fc1", *PAIRED_INPUTS):
        if hasattr(mlp, name):
            yield _whole(index, "mlp_in", mlp, name)
    yield from _norms(index, mlp, "norm")
    yield _whole(index, "mlp_out", mlp, "fc2" if hasattr(mlp, "fc2") else "w2")


def _norms(index: int | None, owner: TimmModule, *names: str) -> Iterator[Site]:
    for name in names:
        if not isinstance(getattr(owner, name, None), nn.Identity | None):
            yield _whole(index, "norm", owner, name)


def _whole(index: int | None, role: str, owner: nn.Module, name: str) -> Site:
    layer = getattr(owner, name)
    width = layer.out_features if isinstance(layer, nn.Linear) else layer.weight.shape[0]
    return Site(index, role, owner, name, slice(0, width))
