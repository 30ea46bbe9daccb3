"""Which backbones vitrim runs exactly, checked part by part before anything is attached.

A backbone with a part this library does not execute is refused with a sentence that names the part: the
alternative, ignoring it, is how LayerScale was lost on DINOv2 and DINOv3 was silently left untouched by
earlier token reducers.
"""

from collections.abc import Collection
from typing import Any

from timm.layers import AttentionPoolLatent, HybridEmbed, Mlp, PatchEmbed, SwiGLU
from timm.layers.attention import Attention
from timm.layers.diff_attention import DiffAttention
from timm.layers.mlp import GluMlp
from timm.models.beit import Attention as BeitAttention
from timm.models.beit import Beit
from timm.models.beit import Block as BeitBlock
from timm.models.cait import Cait, ClassAttn, LayerScaleBlock, LayerScaleBlockClassAttn, TalkingHeadAttn
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.naflexvit import NaFlexVit
from timm.models.vision_transformer import (
    Block,
    ParallelScalingBlock,
    ParallelThingsBlock,
    ResPostBlock,
    VisionTransformer,
)
from timm.models.vision_transformer_relpos import (
    RelPosAttention,
    RelPosBlock,
    ResPostRelPosBlock,
    VisionTransformerRelPos,
)
from timm.models.vitamin import GeGluMlp
from torch import nn

try:  # timm's newer attention with rotary tables, used by the Perception Encoder
    from timm.layers.attention import AttentionRope
except ImportError:  # timm 1.0.20 keeps it elsewhere
    from timm.models.eva import AttentionRope  # type: ignore[attr-defined, no-redef]

# timm's modules carry no types: every part is looked at here before anything relies on it.
TimmModule = Any

MODELS = (VisionTransformer, VisionTransformerDistilled, Eva, Beit, VisionTransformerRelPos, NaFlexVit, Cait)
EMBEDS = (PatchEmbed, HybridEmbed)
POST_NORM = (ResPostBlock, EvaBlockPostNorm, ResPostRelPosBlock)
PARALLEL = (ParallelThingsBlock, ParallelScalingBlock)
BLOCKS = (Block, EvaBlock, BeitBlock, RelPosBlock, LayerScaleBlock, *POST_NORM, *PARALLEL)
ATTENTIONS = (
    *(Attention, EvaAttention, AttentionRope, BeitAttention, RelPosAttention),
    *(DiffAttention, TalkingHeadAttn),
)
MLPS = (Mlp, GluMlp, SwiGLU, GeGluMlp)

PLAIN_PARTS = {"norm1", "attn", "ls1", "drop_path1", "norm2", "mlp", "ls2", "drop_path2"}
BLOCK_PARTS: dict[type[nn.Module], set[str]] = {
    LayerScaleBlock: {"norm1", "attn", "norm2", "mlp", "drop_path"},
    ParallelThingsBlock: {"attns", "ffns"},
    ParallelScalingBlock: {
        *("in_norm", "in_proj", "q_norm", "k_norm", "attn_drop", "mlp_drop", "mlp_act"),
        *("attn_out_proj", "mlp_out_proj", "ls", "drop_path"),
    },
}
ATTENTION_PARTS = {
    *("qkv", "q_proj", "k_proj", "v_proj", "q_norm", "k_norm", "attn_drop", "norm", "gate", "proj"),
    *("proj_drop", "rel_pos", "sub_norm", "proj_l", "proj_w"),
}

LINEAR = (
    *("qkv", "q_proj", "k_proj", "v_proj", "proj", "fc1", "fc1_g", "fc1_x", "w0", "w1", "w2", "fc2"),
    *("in_proj", "attn_out_proj", "mlp_out_proj"),
)

INSIDE = "its blocks sit inside an encoder of its own, which vitrim does not open"
TOGETHER = "its out_proj projects attention and MLP together: no reducer fits in between"
REASONS = {
    "ParallelScalingBlock": TOGETHER,
    "DiffParallelScalingBlock": TOGETHER,
    "Xcit": "its XCA attention mixes channels, not tokens, and its LPI convolves the whole grid",
    "TNT": "its inner blocks attend between the pixels of every patch of the whole grid",
    "ConVit": "its GPSA attention blends in places of the whole grid after the softmax",
    "VisionTransformerSAM": "its window attention cuts the whole grid into squares (window_partition)",
    "Qwen3VitEncoder": "its merger joins neighbouring patches of the whole grid after the last block",
    "Qwen3VitClassifier": INSIDE,
    "DeepseekVitEncoder": "its aligner joins neighbouring patches of the whole grid after the last block",
    "DeepseekVitClassifier": INSIDE,
    "Gemma4VitEncoder": "its soft-token pooler joins patches of the whole grid after the last block",
    "Gemma4VitClassifier": INSIDE,
}
SUPPORTED = (
    "supported are timm's plain ViT, DeiT, CLIP, SigLIP, DINOv2, DINOv3, EVA-02, Perception Encoder, "
    "InternViT, BEiT, relative-position, Sapiens2, NaFlexViT, ViTamin, CaiT, parallel and hybrid models"
)


def check_support(vit: TimmModule) -> None:
    """Raise ValueError, naming the part, unless every part of the timm model is one that vitrim executes."""
    if type(vit) not in MODELS:
        raise _refusal("model", vit)
    if not isinstance(getattr(vit, "patch_drop", None), nn.Identity | None):
        raise ValueError(
            "the backbone drops patches at random (patch_drop); create it with patch_drop_rate=0"
        )
    if not isinstance(vit, NaFlexVit) and type(vit.patch_embed) not in EMBEDS:
        raise _refusal("patch embedding", vit.patch_embed)
    if not isinstance(getattr(vit, "attn_pool", None), AttentionPoolLatent | None):
        raise _refusal("attention pool", vit.attn_pool)
    for index, block in enumerate(vit.blocks):
        _check_block(block, f"block {index}")
    if isinstance(vit, Cait):
        _check_class_attention(vit)


def _check_block(block: TimmModule, where: str) -> None:
    if type(block) not in BLOCKS or getattr(block, "out_proj", None) is not None:
        raise _refusal(where, block)
    if isinstance(block, ParallelScalingBlock):
        _check_layers(block, where)
        if not isinstance(block.drop_path, nn.Identity):
            raise ValueError(
                f"{where} skips attention and MLP together (drop_path), which vitrim runs apart; create the "
                "model with drop_path_rate=0"
            )
    for attention in attentions(block):
        if attention is not block:
            _check_attention(attention, where)
    for part in mlps(block):
        if type(part) not in MLPS:
            raise _refusal(f"the MLP of {where}", part)
        _check_layers(part, where)
    _check_children("block", block, BLOCK_PARTS.get(type(block), PLAIN_PARTS), where)


def _check_attention(attention: TimmModule, where: str) -> None:
    if type(attention) not in ATTENTIONS:
        raise _refusal(f"the attention of {where}", attention)
    _check_layers(attention, where)
    _check_children("attention", attention, ATTENTION_PARTS, where)


def _check_layers(owner: TimmModule, where: str) -> None:
    for name in LINEAR:
        layer = getattr(owner, name, None)
        if isinstance(layer, nn.Module) and not isinstance(layer, nn.Linear | nn.Identity):
            kind = f"{type(layer).__module__}.{type(layer).__name__}"
            raise ValueError(
                f"{name} of {where} is a {kind}, not torch's linear layer: what it computes could be "
                "lost without a word; merge it into a plain one first (PEFT: merge_and_unload), or "
                "quantise and wrap the composed model instead"
            )


def _check_children(kind: str, module: nn.Module, known: Collection[str], where: str) -> None:
    unknown = sorted(name for name, _ in module.named_children() if name not in known)
    if unknown:
        raise ValueError(f"{where} has an unknown part in its {kind}: {unknown[0]}; {SUPPORTED}")


def _check_class_attention(vit: TimmModule) -> None:
    """CaiT's last blocks, in which only the class token asks."""
    if vit.blocks_token_only is None or vit.cls_token is None:
        raise ValueError("the class-attention blocks of this Cait were pruned; give a whole model")
    for index, block in enumerate(vit.blocks_token_only):
        where = f"class-attention block {index}"
        if type(block) is not LayerScaleBlockClassAttn:
            raise _refusal(where, block)
        if type(block.attn) is not ClassAttn:
            raise _refusal(f"the attention of {where}", block.attn)


def part_of(module: nn.Module, name: str) -> Any:
    """A part, weight or setting of a module, None where it has none: asked of every block in every pass,
    and torch's own look-up makes an error, with its text, for each that is not there."""
    own = module.__dict__
    if "parametrizations" in own["_modules"]:  # what torch computes is a property of the class
        return getattr(module, name, None)
    found = own.get(name)
    if found is None:
        found = own["_modules"].get(name)
    return own["_parameters"].get(name) if found is None else found


def attentions(block: TimmModule) -> list[TimmModule]:
    """The attentions of a block; where attention and MLP share a projection, the block itself holds them."""
    if isinstance(block, ParallelThingsBlock):
        return [each.attn for each in block.attns]
    return [block if isinstance(block, ParallelScalingBlock) else block.attn]


def mlps(block: TimmModule) -> list[TimmModule]:
    """The MLPs of a block that are modules of their own."""
    if isinstance(block, ParallelThingsBlock):
        return [each.mlp for each in block.ffns]
    return [] if isinstance(block, ParallelScalingBlock) else [block.mlp]


def fused_projection(attention: TimmModule) -> tuple[TimmModule, slice] | None:
    """The layer that makes queries, keys and values at once, and its rows that do; None where there are
    three."""
    if isinstance(attention, ParallelScalingBlock):
        return attention.in_proj, slice(attention.in_split[0], attention.in_proj.out_features)
    layer = part_of(attention, "qkv")
    return None if layer is None else (layer, slice(0, layer.out_features))


def _refusal(where: str, module: nn.Module) -> ValueError:
    name = type(module).__name__
    reason = REASONS.get(name, "vitrim does not know how to execute it exactly")
    return ValueError(f"{where}: {name} is not supported, {reason}; {SUPPORTED}")
