"""Hooks that would see nothing: vitrim calls the parts of timm's blocks, not the blocks themselves."""

from collections.abc import Iterator

from timm.models.vision_transformer import ParallelThingsBlock
from torch import nn

from vitrim.backbones.support import TalkingHeadAttn, TimmModule, attentions


def refuse_unseen_hooks(vit: TimmModule) -> None:
    """Raise ValueError where a hook hangs on a module whose own forward never runs here.

    Rollout, Grad-CAM and feature extractors hook blocks, attentions and their dropout. Their hooks would be
    called no more and collect nothing, without a word. Every forward pass asks, so names are made only where
    one is to be told.
    """
    if not any(map(_hooked, _bypassed(vit))):
        return
    name = next(name for name, module in never_called(vit) if _hooked(module))
    raise ValueError(
        f"a hook hangs on {name}, which is never called here: its parts are, one by one, so the hook "
        "would see nothing; for attention use model.run(images, attention=True), for features "
        "model.forward_intermediates(images), or hook a part, such as attn.proj or mlp"
    )


def never_called(vit: TimmModule) -> Iterator[tuple[str, nn.Module]]:
    """The modules of a backbone whose own forward is not used, by name."""
    names = {id(module): name for name, module in vit.named_modules(prefix="vit")}
    for module in _bypassed(vit):
        yield "the backbone (vit)" if module is vit else names[id(module)], module


def _bypassed(vit: TimmModule) -> Iterator[nn.Module]:
    yield vit
    for block in vit.blocks:
        yield block
        if isinstance(block, ParallelThingsBlock):
            yield from block.attns
        for attention in attentions(block):
            if attention is not block:
                yield attention
            if not isinstance(attention, TalkingHeadAttn):  # whose weights are computed, and dropped
                yield attention.attn_drop
    for block in getattr(vit, "blocks_token_only", ()):
        yield block
        yield block.attn
        yield block.attn.attn_drop


def _hooked(module: nn.Module) -> bool:
    own = module.__dict__  # where a module has them; its own look-up takes ten times as long
    return bool(
        own["_forward_hooks"]
        or own["_forward_pre_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
    )
