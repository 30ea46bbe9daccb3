"""Folders and hub repositories with a `config.json` of timm or transformers: what they say is built,
then their weights are loaded like any file's. Nothing in them is run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from vitrim.backbones.structure import Architecture
from vitrim.backbones.transformers_configs import CONFIGS

HUB = ("hf-hub:", "hf_hub:")
LOCAL = "local-dir:"
WEIGHTS = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin")


class Repository(NamedTuple):
    """What a folder describes."""

    name: str
    architecture: Architecture
    weights: Path
    images: dict[str, Any]  # mean, std and interpolation


def is_repository(name: str) -> bool:
    """Whether a backbone's name means a folder or a repository of the hub."""
    return name.startswith((*HUB, LOCAL)) or (Path(name).expanduser().is_dir() and not _is_timm(name))


def find_repository(name: str) -> Repository:
    """What the folder or the hub's repository says, its weights fetched where they are not here yet."""
    if name.startswith(HUB):
        repository = name.split(":", 1)[1]
        return _read(name, lambda file: _fetched(repository, file))
    folder = Path(name.removeprefix(LOCAL)).expanduser()
    if not folder.is_dir():
        raise ValueError(f"no folder {str(folder)!r}; give one with a config.json and its weights")
    return _read(str(folder), lambda file: folder / file if (folder / file).is_file() else None)


def _is_timm(name: str) -> bool:
    import timm

    return bool(timm.is_model(name))


def _fetched(repository: str, file: str) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, file))
    except LocalEntryNotFoundError as error:
        raise ValueError(_unreachable(repository, file, error)) from error
    except EntryNotFoundError:
        return None
    except Exception as error:  # the hub's client raises a dozen kinds: no such repository, gated, offline
        raise ValueError(_unreachable(repository, file, error)) from error


def _unreachable(repository: str, file: str, error: Exception) -> str:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return (
        f"could not fetch {file} of hf-hub:{repository}: {first}; download the repository and pass "
        "the folder's "
        "path"
    )


def _read(name: str, get: Callable[[str], Path | None]) -> Repository:
    config = _json(get("config.json"), name)
    if config is None:
        raise ValueError(f"{name!r} has no config.json; give a folder written by timm or transformers")
    weights = next((path for path in map(get, WEIGHTS) if path is not None), None)
    if weights is None:
        raise ValueError(f"{name!r} has no weights; looked for {', '.join(WEIGHTS)}")
    if "architecture" in config:
        return Repository(name, _timm_architecture(name, config), weights, _timm_images(config))
    config = _vision_part(config)
    kind = str(config.get("model_type"))
    if kind not in CONFIGS:
        raise ValueError(
            f"{name!r} holds a model of type {kind!r}; vitrim reads timm's folders and transformers' "
            f"{', '.join(CONFIGS)}"
        )
    try:
        arguments = CONFIGS[kind](config)
    except KeyError as error:
        raise ValueError(f"the config.json of {name!r} lacks {error}") from None
    return Repository(
        name, arguments, weights, _processor_images(_json(get("preprocessor_config.json"), name))
    )


def _json(path: Path | None, name: str) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} of {name!r} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} of {name!r} is damaged: it is no object")
    return content


def _vision_part(config: dict[str, Any]) -> dict[str, Any]:
    """The image tower of a model of images and text."""
    inner = config.get("vision_config")
    return {**inner, "projection": config.get("projection_dim")} if isinstance(inner, dict) else config


def _timm_architecture(name: str, config: dict[str, Any]) -> Architecture:
    import timm

    architecture = config["architecture"]
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        raise ValueError(f"{name!r} is of the model {architecture!r}, which this timm does not have")
    arguments = dict(config.get("model_args") or {})
    if config.get("global_pool") is not None:
        arguments.setdefault("global_pool", config["global_pool"])
    if isinstance(config.get("num_classes"), int):
        arguments["num_classes"] = config["num_classes"]
    return {"name": architecture, "arguments": arguments}


def _timm_images(config: dict[str, Any]) -> dict[str, Any]:
    inner = config.get("pretrained_cfg") or {}
    return {key: inner[key] for key in ("mean", "std", "interpolation") if inner.get(key) is not None}


def _processor_images(processor: dict[str, Any] | None) -> dict[str, Any]:
    if processor is None:
        return {}
    found = {key: processor.get(f"image_{key}") for key in ("mean", "std")}
    found["interpolation"] = {2: "bilinear", 3: "bicubic"}.get(processor.get("resample", 0))
    return {key: value for key, value in found.items() if value is not None}
