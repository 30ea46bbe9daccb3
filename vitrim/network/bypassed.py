"""Hooks that would see nothing: vitrim calls the parts of timm's blocks, not the blocks themselves."""

from collections.abc import Iterator

from torch import nn

from vitrim.backbones.support import TalkingHeadAttn, TimmModule, attentions

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def refuse_unseen_hooks(vit: TimmModule) -> None:
    """Raise ValueError where a hook hangs on a module whose own forward never runs here.

    Rollout, Grad-CAM and feature extractors hook blocks, attentions and their dropout. Their hooks would be
    called no more and collect nothing, without a word.
    """
    for name, module in never_called(vit):
        if any(getattr(module, hooks) for hooks in HOOKS):
            raise ValueError(
                f"a hook hangs on {name}, which is never called here: its parts are, one by one, so the hook "
                "would see nothing; for attention use model.run(images, attention=True), for features "
                "model.forward_intermediates(images), or hook a part, such as attn.proj or mlp"
            )


def never_called(vit: TimmModule) -> Iterator[tuple[str, nn.Module]]:
    """The modules of a backbone whose own forward is not used, by name."""
    yield "the backbone (vit)", vit
    for index, block in enumerate(vit.blocks):
        yield f"vit.blocks.{index}", block
        names = {id(module): name for name, module in block.named_modules()}
        for part in (*getattr(block, "attns", ()), *attentions(block)):
            if part is not block:
                yield f"vit.blocks.{index}.{names[id(part)]}", part
        for attention in attentions(block):
            if not isinstance(attention, TalkingHeadAttn):  # whose weights are computed, and dropped
                yield f"vit.blocks.{index}.{names[id(attention.attn_drop)]}", attention.attn_drop
    for index, block in enumerate(getattr(vit, "blocks_token_only", ())):
        yield f"vit.blocks_token_only.{index}", block
        yield f"vit.blocks_token_only.{index}.attn", block.attn
        yield f"vit.blocks_token_only.{index}.attn.attn_drop", block.attn.attn_drop
