"""`compose`: a backbone and methods become one model. `merge`: what folds is folded back."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from vitrim.backbones.bridge import call_biased_qkv
from vitrim.backbones.opening import Origin, adapted, open_backbone
from vitrim.backbones.patches import pair_of
from vitrim.backbones.preprocess import Preprocess
from vitrim.backbones.rollback import as_before_if_refused
from vitrim.backbones.support import TimmModule
from vitrim.backbones.tuned_linear import Tuned
from vitrim.methods.notation import parse_method
from vitrim.network.combinations import check_composition
from vitrim.network.copying import copied
from vitrim.network.method import Method
from vitrim.network.model import StagedViT
from vitrim.video.making import as_video_model
from vitrim.video.settings import Video, as_video


def compose(
    backbone: str | nn.Module,
    *methods: Method | str,
    num_classes: int | None = None,
    pretrained: bool = False,
    image_size: int | tuple[int, int] | None = None,
    weights: str | Path | None = None,
    in_chans: int | None = None,
    video: Video | str | None = None,
    patch_size: int | tuple[int, int] | None = None,
) -> StagedViT:
    """A backbone with tuners and reducers on it: everything is frozen but what the methods add and the
    classifier.

    Args:
        backbone: a timm model name, "vitrim_tiny_patch8_96" (bundled), a checkpoint file named after its
            model, a folder or "hf-hub:OWNER/NAME" with a config.json of timm or transformers (its weights
            come with it), or a timm module (which the returned model owns and changes; a refusal leaves it
            as it was).
        methods: any tuners and reducers, attached in this order; text such as "EViT(keep=0.5)" is parsed.
        num_classes: outputs of the classifier: the backbone's own where it has as many, else a fresh one.
            None keeps the backbone's own; 0 leaves it away: the model returns pooled features [B, D].
        pretrained: let timm download the named model's weights.
        image_size: pixels, or (height, width); position embeddings are resized by timm.
        weights: a local file for the named model, under timm's names or those of transformers, torchvision,
            OpenAI, open_clip, JAX or the released DINO, MAE, DINOv2 and others. All of it is loaded,
            the trained classifier too, or none.
        in_chans: channels of the images, if not the backbone's own: 1 for grey ones, 4 or 12 for
            multispectral ones. The projection of patches is adapted as timm does, and stays frozen unless a
            method trains it.
        video: for clips instead of images, how their frames become one answer: `Video(pool="attentive")` or
            its text. The model is then a `VideoModel`.
        patch_size: pixels or (height, width) of a patch, if not the backbone's own: smaller ones are more
            tokens. The projection and the position embeddings are resized by timm, as FlexiViT's.

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
    with as_before_if_refused(backbone):
        patch = None if patch_size is None else pair_of("patch_size", patch_size)
        size = None if image_size is None else pair_of("image_size", image_size)
        opened = open_backbone(backbone, pretrained, weights, size if patch is None else None)
        vit, origin = adapted(*opened, in_chans, patch, size)
        return assemble(vit, origin, parsed, num_classes, as_video(video))


def assemble(
    vit: TimmModule,
    origin: Origin,
    methods: tuple[Method, ...],
    num_classes: int | None,
    video: Video | None = None,
) -> StagedViT:
    """Put methods on an opened backbone; `compose` and `load` meet here."""
    if any(isinstance(module, Tuned) for module in vit.modules()):
        raise ValueError(
            "the backbone already carries tuned layers; compose from a fresh timm module or a name"
        )
    if num_classes is not None and num_classes != vit.num_classes:
        check_class_count(num_classes)
        vit.reset_classifier(num_classes)
        for head in _classifiers(vit):
            head.to(next(vit.parameters()))  # older timm makes the new head in float32 on the CPU
    model = StagedViT(vit, Preprocess.of(vit), origin)
    model.requires_grad_(False)
    for head in _classifiers(vit):
        head.requires_grad_(True)
    if video is not None:
        model = as_video_model(model, video)
    for method in methods:
        method.attach(model)
    check_composition(model, methods)
    model.methods = methods
    return model.train(vit.training)  # one mode for all parts


def merge(model: StagedViT) -> StagedViT:
    """A copy whose foldable layers (LoRA, SSF, ...) are plain frozen layers again: same logits, no cost.

    Reducers and branches stay. A layer without a bias gets one where a shift is folded into it.
    """
    merged = copied(model)
    for parent in list(merged.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Tuned):
                setattr(parent, name, child.merged().train(child.training))
    for kind in {type(method) for method in model.methods if method.folds}:
        for key in merged.shared_by(kind):
            del merged.shared[key]
    call_biased_qkv(merged.vit)
    for name, parameter in merged.named_parameters():
        if name in model.base_names:
            parameter.requires_grad_(False)
    for head in _classifiers(merged.vit):
        head.requires_grad_(True)
    left = (method.after_folding() for method in model.methods)
    merged.methods = tuple(method for method in left if method is not None)
    merged.base_names = frozenset(f"vit.{name}" for name in merged.vit.state_dict())
    merged.origin = replace(model.origin, kind="merged", weights=None, seed=None)
    return merged


def check_class_count(classes: object) -> None:
    """Refuse anything but a whole number; 0 means features instead of classes."""
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 0:
        raise ValueError(
            "num_classes must be a whole number of at least 1, or 0 for features without a "
            f"classifier, got {classes!r}"
        )


def _classifiers(vit: TimmModule) -> tuple[nn.Module, ...]:
    head = vit.get_classifier()
    return tuple(head) if isinstance(head, tuple) else (head,)
