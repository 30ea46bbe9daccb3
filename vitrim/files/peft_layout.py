"""LoRA in the PEFT library's layout (`adapter_config.json`, `adapter_model.safetensors`), read and written.

What is written computes the same under PEFT on the same timm model, and the reverse. Dropout is not
carried over: PEFT drops inputs, this library the hidden vector; neither acts outside training.
"""

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from vitrim.backbones.tuned_linear import SummedLinear, Tuned
from vitrim.checks import is_number
from vitrim.compose import compose
from vitrim.files.peft_roles import Pair, as_one, by_layer, fill_pairs, settings, unreached
from vitrim.methods.tuners.linear import Linear
from vitrim.methods.tuners.lora import LoRA
from vitrim.network.method import Method
from vitrim.network.model import StagedViT
from vitrim.reading import loose_json
from vitrim.writing import write_whole

MOST = 65_536  # of a rank or a factor
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
DOWN, UP = ".lora_A.weight", ".lora_B.weight"
HEADS = ("head", "head_dist")
# PEFT's settings that are read, told by the tensors' names, or without effect; any other, if set, is refused.
UNDERSTOOD = {
    "peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "bias",
    "init_lora_weights", "target_modules", "exclude_modules", "layers_to_transform",
    "layers_pattern", "modules_to_save", "lora_dropout", "base_model_name_or_path", "auto_mapping",
    "task_type", "revision", "peft_version", "inference_mode", "runtime_config", "megatron_core",
    "qalora_group_size", "loftq_config", "eva_config", "corda_config", "lora_ga_config",
    "ensure_weight_tying",
}  # fmt: skip
STARTS = (True, False, "gaussian", "eva", "orthogonal")  # those that leave the base weights as they are


def save_peft(model: StagedViT, folder: str | Path) -> None:
    """Write a model's LoRA and classifier as a PEFT adapter of the same timm model.

    `peft.PeftModel.from_pretrained(timm_model, folder)` then gives the same logits.

    Raises:
        ValueError: if the model carries anything that PEFT's layout cannot say.
    """
    others = [repr(method) for method in model.methods if not isinstance(method, LoRA | Linear)]
    if others or not any(isinstance(method, LoRA) for method in model.methods):
        raise ValueError(
            f"PEFT's layout holds LoRA and a head, not {', '.join(others) or 'a model without LoRA'}"
        )
    tuned = {n: as_one(layer) for n, layer in model.vit.named_modules() if isinstance(layer, SummedLinear)}
    tensors: dict[str, Tensor] = {}
    for name, pair in tuned.items():
        _check_reached(model, name)
        tensors[PREFIX + name + DOWN], tensors[PREFIX + name + UP] = pair.down, pair.up
    heads = [name for name in HEADS if isinstance(getattr(model.vit, name, None), nn.Linear)]
    for head in heads:
        layer = getattr(model.vit, head)
        for part, value in (layer.merged() if isinstance(layer, Tuned) else layer).named_parameters():
            tensors[f"{PREFIX}{head}.{part}"] = value
    values = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    write_whole(path / WEIGHTS, to_bytes(values, metadata={"format": "pt"}))
    config = _config(tuned) | {"base_model_name_or_path": model.origin.name, "modules_to_save": heads or None}
    write_whole(path / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def load_peft(
    folder: str | Path,
    backbone: str | nn.Module,
    *methods: Method | str,
    num_classes: int | None = None,
    pretrained: bool = False,
    weights: str | Path | None = None,
) -> StagedViT:
    """Compose a backbone with the LoRA of a PEFT adapter trained on it, and with further methods (reducers).

    The classifier is the adapter's where it saved one; other arguments are those of `compose`.

    Raises:
        FileNotFoundError: if the folder holds no adapter.
        ValueError: if the adapter holds anything that `LoRA` here would not compute exactly.
    """
    config, tensors = _read(Path(folder))
    heads = {name: tensors.pop(name) for name in list(tensors) if name.split(".")[0] in HEADS}
    pairs = _pairs(config, tensors)
    classes = heads["head.weight"].shape[0] if "head.weight" in heads else num_classes
    plain = compose(backbone, num_classes=classes, pretrained=pretrained, weights=weights)
    known = by_layer(plain)
    for name in pairs:
        if name not in known:
            raise ValueError(f"the adapter tunes {name}, which is no linear layer in a block of the backbone")
        _check_reached(plain, name)
    lora = settings(plain, pairs)
    model = compose(plain.vit, lora, *methods)
    model.origin = plain.origin
    fill_pairs(model, pairs, lora)
    with torch.no_grad():
        for name, value in heads.items():
            model.vit.get_parameter(name).copy_(value)
    return model


def _config(pairs: dict[str, Pair]) -> dict[str, Any]:
    """PEFT's settings: the commonest rank and factor, and patterns for the layers that differ."""
    ranks = {name: pair.down.shape[0] for name, pair in pairs.items()}
    alphas = {name: pair.scale * pair.down.shape[0] for name, pair in pairs.items()}
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {re.escape(name): value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {re.escape(name): value for name, value in alphas.items() if value != alpha},
        "target_modules": list(pairs),  # whole names: "proj" alone would also name the patch embedding
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "use_rslora": False,
        "task_type": None,
    }


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = loose_json(file.read_text(encoding="utf-8"), str(file))
    except UnicodeDecodeError:
        raise ValueError(f"{file} is no file of this kind: it is not text in UTF-8") from None
    if not isinstance(config, dict):
        raise ValueError(f"{file} is no file of this kind: it holds no settings by name")
    return config


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings and tensors, the latter by timm's names; refused where a setting asks for more than LoRA."""
    for file in (folder / CONFIG, folder / WEIGHTS):
        if not file.is_file():
            raise FileNotFoundError(
                f"{str(folder)!r} holds no {file.name}; give the folder of a PEFT adapter"
            )
    config = _read_config(folder / CONFIG)
    if config.get("peft_type") != "LORA":
        raise ValueError(f"the adapter is of PEFT's type {config.get('peft_type')}; only LORA can be read")
    odd = {name: value for name, value in config.items() if value and name not in UNDERSTOOD}
    _check_numbers(config, folder / CONFIG)
    if config.get("bias", "none") != "none":
        odd["bias"] = config["bias"]
    if config.get("init_lora_weights", True) not in STARTS:
        odd["init_lora_weights"] = config["init_lora_weights"]
    if odd:
        name, value = next(iter(odd.items()))
        raise ValueError(
            f"the adapter was made with PEFT's {name}={value!r}, which LoRA here does not compute"
        )
    return config, {name.removeprefix(PREFIX): value for name, value in load_file(folder / WEIGHTS).items()}


def _check_numbers(config: dict[str, Any], file: Path) -> None:
    """Refuse ranks and factors that are none; patterns name layers and hold the same."""
    least = {"r": 1.0, "lora_alpha": 0.0}
    for name, pattern in (("r", "rank_pattern"), ("lora_alpha", "alpha_pattern")):
        others = config.get(pattern) or {}
        if not isinstance(others, dict):
            raise ValueError(f"{file}: {pattern} must be values by layer, got {str(others)[:60]!r}")
        for value in (config.get(name), *others.values()):
            if not is_number(value) or not least[name] <= value <= MOST:
                what = f"a number from {least[name]:g} to {MOST:,}"
                raise ValueError(f"{file}: {name} and {pattern} must hold {what}, got {str(value)[:60]!r}")
        for layer in others:
            try:
                re.compile(layer)
            except re.error as error:
                raise ValueError(f"{file}: {pattern} holds {layer[:60]!r}, no pattern: {error}") from None


def _pairs(config: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Pair]:
    """A, B and factor of every layer by its name."""
    odd = [name for name, value in tensors.items() if not name.endswith((DOWN, UP)) or value.ndim != 2]
    if odd or not tensors:
        raise ValueError(
            f"the adapter holds {odd[0] if odd else 'nothing'}; LoRA of linear layers and a head can be read"
        )
    names = [name.removesuffix(DOWN) for name in tensors if name.endswith(DOWN)]
    for name in names:
        rank, stored = (
            _of_pattern(config.get("rank_pattern"), name, config["r"]),
            tensors[name + DOWN].shape[0],
        )
        if rank != stored:  # its factor is alpha / rank, so the adapter would act more or less than it should
            raise ValueError(f"the adapter's settings give {name} the rank {rank}, its weights have {stored}")
    return {name: Pair(tensors[name + DOWN], tensors[name + UP], _scale(config, name)) for name in names}


def _scale(config: dict[str, Any], name: str) -> float:
    rank = _of_pattern(config.get("rank_pattern"), name, config["r"])
    alpha = _of_pattern(config.get("alpha_pattern"), name, config["lora_alpha"])
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _of_pattern(pattern: dict[str, Any] | None, name: str, default: Any) -> Any:
    """The value of the first pattern that ends the name, as PEFT matches them."""
    matching = (value for key, value in (pattern or {}).items() if re.match(rf"(.*\.)?({key})$", name))
    return next(matching, default)


def _check_reached(model: StagedViT, name: str) -> None:
    if unreached(model, name):
        raise ValueError(f"timm never calls {name} of this backbone, so LoRA by PEFT has no effect there")
