"""Modules that are not timm's: which library made them, and what to pass instead."""

from torch import nn

ADVICE = {
    "transformers": "save it with save_pretrained(FOLDER) and pass the folder's path",
    "torchvision": "save its state_dict() and pass the timm name of the same shape (vit_b_16 is "
    "vit_base_patch16_224) with weights=FILE",
    "open_clip": "pass timm's name of the same shape (such as vit_base_patch16_clip_224) with weights=FILE",
    "clip": "pass timm's name with quickgelu in it, such as vit_base_patch16_clip_quickgelu_224, with "
    "weights=FILE",
    "peft": "pass model.merge_and_unload() if that is a timm model",
    "torch": "pass the timm model that it wraps (its .module or ._orig_mod)",
    "accelerate": "pass accelerator.unwrap_model(model)",
    "lightning": "pass the timm model inside it",
    "pytorch_lightning": "pass the timm model inside it",
}


def check_is_timm(module: nn.Module) -> None:
    """Refuse a module of another library, naming the library and the way in."""
    package = type(module).__module__.split(".")[0]
    if package == "timm" or any(kind.__module__.startswith("timm.models.") for kind in type(module).__mro__):
        return
    advice = ADVICE.get(
        package, "pass a timm model, its name with weights=FILE, or a folder with a config.json"
    )
    raise ValueError(f"{type(module).__name__} is a module of {package}, and vitrim runs timm's; {advice}")
