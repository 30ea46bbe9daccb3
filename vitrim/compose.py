"""`compose`: a backbone and methods become one model. `merge`: what folds is folded back."""

import copy
from pathlib import Path

from torch import nn

from vitrim.backbones.bridge import call_biased_qkv
from vitrim.backbones.opening import Origin, open_backbone
from vitrim.backbones.preprocess import Preprocess
from vitrim.backbones.support import TimmModule
from vitrim.backbones.tuned_linear import Tuned
from vitrim.checks import check_positive
from vitrim.methods.notation import parse_method
from vitrim.network.combinations import check_composition
from vitrim.network.method import Method
from vitrim.network.stage import StagedViT


def compose(
    backbone: str | nn.Module,
    *methods: Method | str,
    num_classes: int | None = None,
    pretrained: bool = False,
    image_size: int | tuple[int, int] | None = None,
    weights: str | Path | None = None,
) -> StagedViT:
    """A backbone with tuners and reducers on it: everything is frozen but what the methods add and the
    classifier.

    Args:
        backbone: a timm model name, "vitrim_tiny_patch8_96" (bundled), a checkpoint file named after its
            model, or a timm module (which the returned model owns and changes).
        methods: any tuners and reducers, attached in this order; text such as "EViT(keep=0.5)" is parsed.
        num_classes: outputs of a fresh classifier; None keeps the backbone's own.
        pretrained: let timm download the named model's weights.
        image_size: pixels, or (height, width); position embeddings are resized by timm.
        weights: a local safetensors, pth or npz file for the named model.

    Raises:
        ValueError: for unknown names, backbones or combinations that are not supported; the message names the
            part.
        FileNotFoundError: for a missing weights file.

    >>> model = compose("vit_tiny_patch16_224", LoRA(rank=8), EViT(keep=0.7, at=(3, 6, 9)), num_classes=10)
    """
    if isinstance(backbone, StagedViT):
        raise ValueError("this model is composed already; compose from a fresh timm module or a name")
    parsed = tuple(parse_method(method) if isinstance(method, str) else method for method in methods)
    for method in parsed:
        if not isinstance(method, Method):
            raise ValueError(f"{method!r} is no method; pass instances such as LoRA(rank=8) or their text")
    vit, origin = open_backbone(backbone, pretrained, weights, image_size)
    return assemble(vit, origin, parsed, num_classes)


def assemble(
    vit: TimmModule, origin: Origin, methods: tuple[Method, ...], num_classes: int | None
) -> StagedViT:
    """Put methods on an opened backbone; `compose` and `load` meet here."""
    if any(isinstance(module, Tuned) for module in vit.modules()):
        raise ValueError(
            "the backbone already carries tuned layers; compose from a fresh timm module or a name"
        )
    if num_classes is not None and num_classes != vit.num_classes:
        check_positive("compose", "num_classes", num_classes)
        vit.reset_classifier(num_classes)
        for head in _classifiers(vit):
            head.to(next(vit.parameters()))  # older timm makes the new head in float32 on the CPU
    model = StagedViT(vit, Preprocess.of(vit), origin)
    model.requires_grad_(False)
    for head in _classifiers(vit):
        head.requires_grad_(True)
    for method in methods:
        method.attach(model)
    check_composition(model, methods)
    model.methods = methods
    return model.train(vit.training)  # one mode for all parts


def merge(model: StagedViT) -> StagedViT:
    """A copy whose foldable layers (LoRA, SSF, ...) are plain frozen layers again: same logits, no cost.

    Reducers and branches stay. A layer without a bias gets one where a shift is folded into it.
    """
    merged = copy.deepcopy(model)
    for parent in list(merged.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Tuned):
                setattr(parent, name, child.merged().train(child.training))
    for method in model.methods:
        if method.folds and type(method).__name__ in merged.shared:
            del merged.shared[type(method).__name__]
    call_biased_qkv(merged.vit)
    for name, parameter in merged.named_parameters():
        if name in model.base_names:
            parameter.requires_grad_(False)
    for head in _classifiers(merged.vit):
        head.requires_grad_(True)
    merged.methods = tuple(method for method in model.methods if not method.folds)
    merged.base_names = frozenset(f"vit.{name}" for name in merged.vit.state_dict())
    merged.origin = Origin(model.origin.name, "merged", model.origin.image_size)
    return merged


def _classifiers(vit: TimmModule) -> tuple[nn.Module, ...]:
    head = vit.get_classifier()
    return tuple(head) if isinstance(head, tuple) else (head,)
