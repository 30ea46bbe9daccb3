"""Which backbones vitrim runs exactly, checked part by part before anything is attached.

A backbone with a part this library does not execute is refused with a sentence that names the part: the
alternative, ignoring it, is how LayerScale was lost on DINOv2 and DINOv3 was silently left untouched by
earlier token reducers.
"""

from typing import Any

from timm.layers import AttentionPoolLatent, Mlp, SwiGLU
from timm.layers.attention import Attention
from timm.layers.mlp import GluMlp
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva, EvaAttention, EvaBlock
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

try:  # timm's newer attention with rotary tables, used by the Perception Encoder
    from timm.layers.attention import AttentionRope
except ImportError:  # timm 1.0.20 keeps it elsewhere
    from timm.models.eva import AttentionRope  # type: ignore[attr-defined, no-redef]

# timm's modules carry no types: every part is looked at here before anything relies on it.
TimmModule = Any

MODELS = (VisionTransformer, VisionTransformerDistilled, Eva)
BLOCKS = (Block, EvaBlock)
ATTENTIONS = (Attention, EvaAttention, AttentionRope)
MLPS = (Mlp, GluMlp, SwiGLU)

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
    },
}

REASONS = {
    "Beit": "its attention adds a relative position bias that a reduced sequence has no table for",
    "ResPostBlock": "it normalises after the residual branch (post-norm)",
    "EvaBlockPostNorm": "it normalises after the residual branch (post-norm)",
    "ParallelScalingBlock": "it computes attention and MLP in parallel",
    "ParallelThingsBlock": "it computes attention and MLP in parallel",
    "DiffParallelScalingBlock": "it computes attention and MLP in parallel",
    "DiffAttention": "its differential attention is not implemented",
}
SUPPORTED = (
    "supported are timm's plain ViT, DeiT, CLIP, SigLIP, DINOv2, DINOv3, EVA-02, Perception Encoder and "
    "InternViT models"
)


def check_support(vit: TimmModule) -> None:
    """Raise ValueError, naming the part, unless every part of the timm model is one that vitrim executes."""
    if type(vit) not in MODELS:
        raise _refusal("model", vit)
    if not isinstance(getattr(vit, "patch_drop", None), nn.Identity | None):
        raise ValueError(
            "the backbone drops patches at random (patch_drop); create it with patch_drop_rate=0"
        )
    if not isinstance(vit.attn_pool, AttentionPoolLatent | None):
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
    if getattr(block.attn, "num_kv_groups", 1) != 1:
        raise ValueError(
            f"the attention of {where} shares keys between heads (grouped queries), which is not supported"
        )
    for kind, module in (("block", block), ("attention", block.attn)):
        unknown = sorted(name for name, _ in module.named_children() if name not in PARTS[kind])
        if unknown:
            raise ValueError(f"{where} has an unknown part in its {kind}: {unknown[0]}; {SUPPORTED}")


def _refusal(where: str, module: nn.Module) -> ValueError:
    name = type(module).__name__
    reason = REASONS.get(name, "vitrim does not know how to execute it exactly")
    return ValueError(f"{where}: {name} is not supported, {reason}; {SUPPORTED}")
