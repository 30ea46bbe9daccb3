"""Every library's names for the weights of a Vision Transformer, and timm's name for each. One table.

A layout is known by the weight of its patch projection (`sign`) and by a second name it must have (`also`).
`names` are regular expressions for whole names, read from the top. Query, key and value become `attn.q`,
`attn.k` and `attn.v` here; `fitting` joins them where the model has one layer for the three. A name
that no rule mentions stays as it is, and is refused where the model has no place for it.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """How one library, or one family in it, names its weights.

    Attributes:
        name: for sentences.
        sign: regular expression of the patch projection's weight, from the end of the backbone's prefix.
        also: regular expression that some other name below the same prefix matches.
        names: (regular expression, timm's name).
        outside: the same for weights beside the backbone's prefix: the classifier.
        ignored: parts of the library's model that only pretraining or its own output needs.
        mean_std: the normalisation all models of this library are trained with, where the timm model of the
            same shape has another.
    """

    name: str
    sign: str
    also: str
    names: tuple[tuple[str, str], ...] = ()
    outside: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()
    mean_std: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def translate(self, name: str) -> str | None:
        """timm's name, None for what is ignored."""
        if any(re.fullmatch(rule, name) for rule in self.ignored):
            return None
        for rule, new in self.names:
            if re.fullmatch(rule, name):
                return re.sub(rule, new, name)
        return name


SIZES = {192: "Ti", 384: "S", 768: "B", 1024: "L", 1280: "H", 1408: "g", 1536: "g", 1664: "G"}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
B = r"(?:model\.)?(?:encoder\.)?layers?\.(\d+)\."  # a block of transformers
W = r"(weight|bias)"

# timm's own names are also those of DeiT, DINO, MAE, MoCo v3, iBOT, DINOv2, DINOv3 and EVA as released,
# but for what stands here.
TIMM = Layout(
    "timm",
    r"(?:patch_embed|embeds)\.proj\.weight|patch_embed\.backbone\..*",  # ViTamin's stem needs no projection
    r"blocks\.0\..*",
    names=(
        (r"blocks\.\d+\.(\d+\..*)", r"blocks.\1"),  # DINOv2 trained in chunks of blocks
        (r"register_tokens|storage_tokens", "reg_token"),
    ),
    outside=(
        (rf"(?:head|classifier|fc|linear|cls_head)\.{W}", r"head.\1"),
        (r"visual\.head\.proj\.weight", "head.weight"),  # open_clip around a timm model
    ),
    ignored=(
        r"mask_token|masked_embed|n_averaged|local_cls_norm\..*|lm_head\..*|decoder_.*",
        r"rope_embed\.periods|(?:blocks\.\d+\.attn\.)?rope\.freqs_(?:cos|sin)|blocks\.\d+\.attn\.qkv\.bias_mask",
        r"head\.(?:mlp|last_layer)\..*|(?:dino|ibot)_head\..*|projectors\..*",
    ),
)
TRANSFORMERS = Layout(
    "transformers ViT",
    r"embeddings\.patch_embeddings\.(?:projection\.)?weight",
    rf"{B}.*",
    names=(
        (r"embeddings\.cls_token", "cls_token"),
        (r"embeddings\.distillation_token", "dist_token"),
        (r"embeddings\.register_tokens", "reg_token"),
        (r"embeddings\.position_embeddings", "pos_embed"),
        (rf"embeddings\.patch_embeddings\.(?:projection\.)?{W}", r"patch_embed.proj.\1"),
        (rf"{B}attention\.(?:attention\.query|q_proj)\.{W}", r"blocks.\1.attn.q.\2"),
        (rf"{B}attention\.(?:attention\.key|k_proj)\.{W}", r"blocks.\1.attn.k.\2"),
        (rf"{B}attention\.(?:attention\.value|v_proj)\.{W}", r"blocks.\1.attn.v.\2"),
        (rf"{B}attention\.(?:output\.dense|o_proj)\.{W}", r"blocks.\1.attn.proj.\2"),
        (rf"{B}(?:layernorm_before|norm1)\.{W}", r"blocks.\1.norm1.\2"),
        (rf"{B}(?:layernorm_after|norm2)\.{W}", r"blocks.\1.norm2.\2"),
        (rf"{B}mlp\.gate_proj\.{W}", r"blocks.\1.mlp.fc1_g.\2"),
        (rf"{B}(?:intermediate\.dense|mlp\.(?:fc1|up_proj|weights_in))\.{W}", r"blocks.\1.mlp.fc1.\2"),
        (rf"{B}(?:output\.dense|mlp\.(?:fc2|down_proj|weights_out))\.{W}", r"blocks.\1.mlp.fc2.\2"),
        (rf"{B}layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
        (rf"(?:layernorm|norm)\.{W}", r"norm.\1"),
    ),
    outside=(
        (rf"(?:cls_)?classifier\.{W}", r"head.\1"),
        (rf"distillation_classifier\.{W}", r"head_dist.\1"),
    ),
    ignored=(r"embeddings\.mask_token|pooler\..*|decoder\..*",),
)
TRANSFORMERS_TOWER = Layout(
    "transformers CLIP or SigLIP",
    r"embeddings\.patch_embedding\.weight",
    r"encoder\.layers\.0\..*",
    names=(
        (r"embeddings\.class_embedding", "cls_token"),
        (r"embeddings\.position_embedding\.weight", "pos_embed"),
        (rf"embeddings\.patch_embedding\.{W}", r"patch_embed.proj.\1"),
        (rf"{B}self_attn\.([qkv])_proj\.{W}", r"blocks.\1.attn.\2.\3"),
        (rf"{B}self_attn\.out_proj\.{W}", r"blocks.\1.attn.proj.\2"),
        (rf"{B}layer_norm([12])\.{W}", r"blocks.\1.norm\2.\3"),
        (rf"{B}mlp\.fc([12])\.{W}", r"blocks.\1.mlp.fc\2.\3"),
        (rf"pre_layrnorm\.{W}", r"norm_pre.\1"),
        (rf"post_layernorm\.{W}", r"norm.\1"),
        (r"head\.probe", "attn_pool.latent"),
        (rf"head\.attention\.in_proj_{W}", r"attn_pool.in_proj.\1"),
        (rf"head\.attention\.out_proj\.{W}", r"attn_pool.proj.\1"),
        (rf"head\.layernorm\.{W}", r"attn_pool.norm.\1"),
        (rf"head\.mlp\.fc([12])\.{W}", r"attn_pool.mlp.fc\1.\2"),
    ),
    outside=((r"visual_projection\.weight", "head.weight"),),
    ignored=(r"embeddings\.position_ids",),
)
TORCHVISION = Layout(
    "torchvision ViT",
    r"conv_proj\.weight",
    r"encoder\.layers\.encoder_layer_0\..*",
    names=(
        (r"class_token", "cls_token"),
        (rf"conv_proj\.{W}", r"patch_embed.proj.\1"),
        (r"encoder\.pos_embedding", "pos_embed"),
        (rf"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_{W}", r"blocks.\1.attn.qkv.\2"),
        (rf"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.out_proj\.{W}", r"blocks.\1.attn.proj.\2"),
        (rf"encoder\.layers\.encoder_layer_(\d+)\.ln_([12])\.{W}", r"blocks.\1.norm\2.\3"),
        (rf"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:0|linear_1)\.{W}", r"blocks.\1.mlp.fc1.\2"),
        (rf"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:3|linear_2)\.{W}", r"blocks.\1.mlp.fc2.\2"),
        (rf"encoder\.ln\.{W}", r"norm.\1"),
        (rf"heads\.head\.{W}", r"head.\1"),
    ),
    mean_std=IMAGENET,
)
CLIP = Layout(
    "OpenAI or open_clip CLIP",
    r"conv1\.weight",
    r"class_embedding",
    names=(
        (r"class_embedding", "cls_token"),
        (r"conv1\.weight", "patch_embed.proj.weight"),
        (r"positional_embedding", "pos_embed"),
        (rf"transformer\.resblocks\.(\d+)\.attn\.in_proj_{W}", r"blocks.\1.attn.qkv.\2"),
        (rf"transformer\.resblocks\.(\d+)\.attn\.out_proj\.{W}", r"blocks.\1.attn.proj.\2"),
        (rf"transformer\.resblocks\.(\d+)\.ln_([12])\.{W}", r"blocks.\1.norm\2.\3"),
        (rf"transformer\.resblocks\.(\d+)\.mlp\.c_fc\.{W}", r"blocks.\1.mlp.fc1.\2"),
        (rf"transformer\.resblocks\.(\d+)\.mlp\.c_proj\.{W}", r"blocks.\1.mlp.fc2.\2"),
        (rf"ln_pre\.{W}", r"norm_pre.\1"),
        (rf"ln_post\.{W}", r"norm.\1"),
        (r"proj", "head.weight.transposed"),
    ),
)
JAX = Layout(
    "JAX (Google's npz)",
    r"embedding/kernel",
    r"Transformer/encoderblock.*",
    names=(
        (r"cls", "cls_token"),
        (r"(?:Transformer/posembed_input/)?pos_embedding", "pos_embed"),
        (r"embedding/(kernel|bias)", r"patch_embed.proj.\1"),
        (r"Transformer/encoder_norm/(scale|bias)", r"norm.\1"),
        (r"head/(kernel|bias)", r"head.\1"),
        (r"Transformer/encoderblock_(\d+)/LayerNorm_0/(scale|bias)", r"blocks.\1.norm1.\2"),
        (r"Transformer/encoderblock_(\d+)/LayerNorm_[12]/(scale|bias)", r"blocks.\1.norm2.\2"),
        (
            r"Transformer/encoderblock_(\d+)/MultiHeadDotProductAttention_[01]/([qkv])(?:uery|ey|alue)/(kernel|bias)",
            r"blocks.\1.attn.\2.\3",
        ),
        (
            r"Transformer/encoderblock_(\d+)/MultiHeadDotProductAttention_[01]/out/(kernel|bias)",
            r"blocks.\1.attn.proj.\2",
        ),
        (r"Transformer/encoderblock_(\d+)/MlpBlock_[03]/Dense_0/(kernel|bias)", r"blocks.\1.mlp.fc1.\2"),
        (r"Transformer/encoderblock_(\d+)/MlpBlock_[03]/Dense_1/(kernel|bias)", r"blocks.\1.mlp.fc2.\2"),
        (r"MAPHead_0/probe", "attn_pool.latent"),
        (r"MAPHead_0/LayerNorm_0/(scale|bias)", r"attn_pool.norm.\1"),
        (r"MAPHead_0/MlpBlock_0/Dense_0/(kernel|bias)", r"attn_pool.mlp.fc1.\1"),
        (r"MAPHead_0/MlpBlock_0/Dense_1/(kernel|bias)", r"attn_pool.mlp.fc2.\1"),
        (
            r"MAPHead_0/MultiHeadDotProductAttention_0/([qkv])(?:uery|ey|alue)/(kernel|bias)",
            r"attn_pool.\1.\2",
        ),
        (r"MAPHead_0/MultiHeadDotProductAttention_0/out/(kernel|bias)", r"attn_pool.proj.\1"),
    ),
)
LAYOUTS = (TIMM, TRANSFORMERS, TRANSFORMERS_TOWER, TORCHVISION, CLIP, JAX)

# What wraps a module leaves its mark inside names, at any depth.
MARKS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")

# Which of several backbones in one file is meant: what evaluation uses comes first.
PREFERRED = ("teacher", "ema", "base_encoder")

# What stands beside a backbone and is not part of it: optimisers, the other network of a pair, text towers,
# the heads of pretraining.
BESIDE = (
    r"(?:.*[./])?(?:optimi[sz]er\w*|lr_scheduler\w*|scheduler\w*|scaler|amp|rng\w*|callbacks|loops|opt_state)[./].*",
    r"(?:.*\.)?head\.(?:mlp|last_layer)\..*|(?:.*\.)?(?:dino|ibot)_head\..*",
    r"(?:.*\.)?(?:projector\w*|predictor\w*|decoder\w*|momentum_encoder|student|online\w*)\..*",
    r"(?:.*\.)?(?:criterion|loss\w*|\w+_loss|metrics?|\w*_(?:acc|accuracy|metric|metrics))\..*",
    r"(?:.*\.)?(?:queue|queue_ptr|center|n_averaged|logit_scale|logit_bias|epoch|step|global_step|mask_token)",
    r"(?:.*\.)?(?:text|text_model|text_projection|transformer\.resblocks|ln_final|token_embedding)(?:\..*|_.*)?",
    r"(?:.*\.)?(?:positional_embedding|attn_mask|input_resolution|context_length|vocab_size)",
    r"(?:params/|opt/)?(?:txt|target/opt|t|b)(?:/.*)?",
)
