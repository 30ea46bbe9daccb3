"""Names of backbones: timm's, checked before any weights are fetched or made, and those in files' names."""

from collections.abc import Callable
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from vitrim.backbones.shapes import shapes_only
from vitrim.backbones.support import check_support
from vitrim.checks import did_you_mean

BUNDLED = "vitrim_tiny_patch8_96"
CHECKPOINT_ENDINGS = (".safetensors", ".pth", ".pt", ".bin", ".npz")


def name_without_weights(model: str) -> str:
    """The backbone's name, also of a checkpoint file: for counting, which needs no weights."""
    return name_in_file(model) if Path(model).is_file() else model


def name_in_file(file: str) -> str:
    """The model a checkpoint file is named after, as timm does: NAME.TAG.safetensors or NAME.safetensors."""
    import timm

    stem = Path(file).name.removesuffix(Path(file).suffix)
    architecture = stem.split(".")[0]
    if timm.is_model(architecture):
        return stem if stem in timm.list_pretrained(f"{architecture}.*") else architecture
    raise ValueError(
        f"cannot tell from the file name {Path(file).name!r} which model it is for; "
        f"give the name and weights={file!r}"
    )


def check_name(name: str) -> None:
    """Refuse unknown and unsupported models before any weights are fetched or made."""
    import timm

    if not timm.is_model(name):
        raise ValueError(unknown_name(name))
    tagged = timm.list_pretrained(f"{name.split('.')[0]}.*")
    if "." in name and name not in tagged:
        raise ValueError(f"timm has no weights {name!r}; {did_you_mean(name, tagged)}")
    _check_structure(name, timm.model_entrypoint(name))


@lru_cache(maxsize=64)
def _check_structure(name: str, made_by: Callable[..., nn.Module]) -> None:
    """Once, because a sweep composes the same one again and again; anew where `made_by` says that something
    else was registered under the name, or what is there was refused."""
    check_support(structure_named(name))


def unknown_name(name: str) -> str:
    """What to say of a name that timm does not have: close ones that vitrim can run, or how to write it."""
    import timm

    owner, slash, rest = name.partition("/")
    if slash and owner and rest and not name.startswith((".", "/", "~")) and "/" not in rest:
        return f"no model {name!r} in timm and no such folder; a repository of the hub is hf-hub:{name}"
    if slash or name.startswith("~"):
        return f"no folder {name!r}, and no timm model has such a name"
    known = {model.lower(): model for model in [BUNDLED, *timm.list_models()]}
    close = get_close_matches(name.split(".")[0].lower(), known, n=12, cutoff=0.6)
    fitting = (known[match] for match in close if known[match] == BUNDLED or is_supported(known[match]))
    found = list(islice(fitting, 3))
    if not found:
        return (
            f"no model {name!r} in timm, and none that vitrim runs has a similar name; see vitrim list models"
        )
    return f"no model {name!r} in timm; did you mean {' or '.join(found)}?"


def is_supported(name: str) -> bool:
    """Whether the named timm model is one that vitrim runs."""
    try:
        check_support(structure_named(name))
    except (ValueError, AttributeError):  # of other architectures, which lack what is looked at
        return False
    return True


def structure_named(name: str) -> nn.Module:
    """The named model's structure on the meta device."""
    import timm

    try:
        with shapes_only():
            return timm.create_model(name)
    except RuntimeError:  # older timm reads values of tensors, which have none there
        with torch.device("cpu"):
            return timm.create_model(name).to("meta")
