"""Which backbones vitrim runs exactly, checked part by part before anything is attached.

A backbone with a part this library does not execute is refused with a sentence that names the part: the
alternative, ignoring it, is how LayerScale was lost on DINOv2 and DINOv3 was silently left untouched by
earlier token reducers.
"""

from typing import Any

from timm.layers import AttentionPoolLatent, HybridEmbed, Mlp, PatchEmbed, SwiGLU
from timm.layers.attention import Attention
from timm.layers.mlp import GluMlp
from timm.models.beit import Attention as BeitAttention
from timm.models.beit import Beit
from timm.models.beit import Block as BeitBlock
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.naflexvit import NaFlexVit
from timm.models.vision_transformer import Block, ResPostBlock, VisionTransformer
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

MODELS = (VisionTransformer, VisionTransformerDistilled, Eva, Beit, VisionTransformerRelPos, NaFlexVit)
EMBEDS = (PatchEmbed, HybridEmbed)
POST_NORM = (ResPostBlock, EvaBlockPostNorm, ResPostRelPosBlock)
BLOCKS = (Block, EvaBlock, BeitBlock, RelPosBlock, *POST_NORM)
ATTENTIONS = (Attention, EvaAttention, AttentionRope, BeitAttention, RelPosAttention)
MLPS = (Mlp, GluMlp, SwiGLU, GeGluMlp)

PARTS = {
    "block": {"norm1", "attn", "ls1", "drop_path1", "norm2", "mlp", "ls2", "drop_path2"},
    "attention": {
        "qkv",
        "q_proj",
        "k_proj",
        "v_proj",
        "q_norm",
        "k_norm",
        "attn_drop",
        "norm",
        "gate",
        "proj",
        "proj_drop",
        "rel_pos",
    },
}

LINEAR = ("qkv", "q_proj", "k_proj", "v_proj", "proj", "fc1", "fc1_g", "fc1_x", "w0", "w1", "w2", "fc2")

INSIDE = "its blocks sit inside an encoder of its own, which vitrim does not open"
REASONS = {
    "ParallelScalingBlock": "its in_proj computes attention and MLP in parallel: no reducer fits in between",
    "ParallelThingsBlock": "it runs several attentions, then several MLPs, in parallel (attns and ffns)",
    "DiffParallelScalingBlock": "its in_proj computes a differential attention and the MLP in parallel",
    "DiffAttention": "its differential attention subtracts two softmaxes: no token score is defined for it",
    "Xcit": "its XCA attention mixes channels, not tokens, and its LPI convolves the whole grid",
    "TNT": "its inner blocks attend between the pixels of every patch of the whole grid",
    "ConVit": "its GPSA attention blends in places of the whole grid after the softmax",
    "Cait": "its TalkingHeadAttn mixes heads around the softmax and its class token enters after the trunk",
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
    "InternViT, BEiT, relative-position, Sapiens2, NaFlexViT, ViTamin and hybrid models"
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


def _check_block(block: TimmModule, where: str) -> None:
    if type(block) not in BLOCKS:
        raise _refusal(where, block)
    if type(block.attn) not in ATTENTIONS:
        raise _refusal(f"the attention of {where}", block.attn)
    if type(block.mlp) not in MLPS:
        raise _refusal(f"the MLP of {where}", block.mlp)
    for name in LINEAR:
        for owner in (block.attn, block.mlp):
            layer = getattr(owner, name, None)
            if isinstance(layer, nn.Module) and not isinstance(layer, nn.Linear | nn.Identity):
                kind = f"{type(layer).__module__}.{type(layer).__name__}"
                raise ValueError(
                    f"{name} of {where} is a {kind}, not torch's linear layer: what it computes could be "
                    "lost without a word; merge it into a plain one first (PEFT: merge_and_unload), or "
                    "quantise and wrap the composed model instead"
                )
    for kind, module in (("block", block), ("attention", block.attn)):
        unknown = sorted(name for name, _ in module.named_children() if name not in PARTS[kind])
        if unknown:
            raise ValueError(f"{where} has an unknown part in its {kind}: {unknown[0]}; {SUPPORTED}")


def _refusal(where: str, module: nn.Module) -> ValueError:
    name = type(module).__name__
    reason = REASONS.get(name, "vitrim does not know how to execute it exactly")
    return ValueError(f"{where}: {name} is not supported, {reason}; {SUPPORTED}")
