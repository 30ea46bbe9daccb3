"""What a file or folder is: a weights file of some library, a saved model, a run, an adapter, an exported
file. Nothing is built and nothing in it is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vitrim.runs.inspecting_programs import Rows, inspect_program, is_program


def inspect(path: str | Path) -> Rows:
    """Labels and what stands behind them, the kind first.

    Raises FileNotFoundError where there is nothing, ValueError for what vitrim knows no use for.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        return _folder(place)
    if not place.is_file():
        raise FileNotFoundError(f"there is no file or folder {str(path)!r}")
    if is_program(place):
        return inspect_program(place)
    from vitrim.backbones.weights.reading import kind_of_file

    kind = kind_of_file(place)
    if kind == "safetensors" and _is_saved_model(place):
        return _saved_model(place)
    return _weights(
        place, {"torch": "PyTorch (read without running anything)", "npz": "NumPy archive"}.get(kind, kind)
    )


def _folder(place: Path) -> Rows:
    if (place / "run.json").is_file():
        return _run(place)
    if (place / "adapter_config.json").is_file():
        return _adapter(place)
    if (place / "config.json").is_file():
        from vitrim.backbones.repositories import find_repository

        found = find_repository(str(place))
        about = found.architecture
        named = about.get("name") or f"{about['class']} {_short(about['arguments'])}"
        rows = [("kind", "folder with a config.json: give its path as the model"), ("model", str(named))]
        return [*rows, ("weights", found.weights.name), *_weights(found.weights, found.weights.suffix)[2:]]
    raise ValueError(
        f"{str(place)!r} has no run.json (a run), adapter_config.json (an adapter of PEFT) or config.json (a "
        "model of timm or transformers)"
    )


def _run(place: Path) -> Rows:
    from vitrim.runs.folder import RunFolder

    folder = RunFolder.open(place)
    record, settings = folder.record(), folder.settings()
    rows = [("kind", "run folder of vitrim"), ("status", str(record.get("status", "unknown")))]
    rows += [(key, str(settings[key])) for key in ("data", "recipe") if settings.get(key)]
    rows.append(("epochs done", str(len(folder.history()))))
    results = record.get("results")
    if isinstance(results, dict) and isinstance(results.get("top1"), int | float):
        rows.append(("accuracy", f"{100 * results['top1']:.2f} % of {results.get('split', 'test')}"))
    elif isinstance(results, dict) and isinstance(results.get("miou"), int | float):
        rows.append(("mIoU", f"{100 * results['miou']:.2f} % of {results.get('split', 'test')}"))
    if folder.model_file.is_file():
        return [*rows, *_saved_model(folder.model_file)[1:]]
    return [*rows, ("model", "none yet: the training has not finished")]


def _adapter(place: Path) -> Rows:
    from vitrim.backbones.weights.reading import read_weights

    try:
        config = json.loads((place / "adapter_config.json").read_text(encoding="utf-8"))
        rows = [("kind", f"adapter in PEFT's layout ({config.get('peft_type', 'of unknown type')})")]
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"adapter_config.json of {str(place)!r} is damaged: {error}") from None
    for key, label in (("base_model_name_or_path", "backbone"), ("r", "rank"), ("target_modules", "layers")):
        if config.get(key) is not None:
            rows.append((label, _short(config[key])))
    for name in ("adapter_model.safetensors", "adapter_model.bin"):
        if (place / name).is_file():
            return [*rows, *_counts(read_weights(place / name))]
    return [*rows, ("weights", "none: there is no adapter_model.safetensors")]


def _is_saved_model(place: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(place, framework="pt") as opened:
            return "vitrim" in (opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{place.name!r} is not a readable safetensors file ({error})") from error


def _saved_model(place: Path) -> Rows:
    from vitrim.files.saving import read

    about, tensors = read(place)
    backbone, classes = about["backbone"], about["classes"]
    segments = (about.get("task") or {}).get("kind") == "segment"
    held = "all weights are in the file" if backbone["included"] else "found again when the file is opened"
    named = "" if classes is None else f": {_short(classes)}"
    return [
        ("kind", f"model saved by vitrim (format {about['format']})"),
        ("methods", " ".join(about["methods"]) or "none: a linear probe"),
        ("backbone", f"{backbone['name']}, {backbone['kind']}; {held}"),
        (
            "classes",
            "of pixels: it segments"
            if segments
            else f"{about['num_classes']}{named}"
            if about["num_classes"]
            else "none: it returns features",
        ),
        ("image size", "x".join(map(str, about["preprocess"]["image_size"]))),
        *_counts(tensors),
    ]


def _weights(place: Path, kind: str) -> Rows:
    from vitrim.backbones.weights.describe import classes_in, looks_like
    from vitrim.backbones.weights.reading import read_weights
    from vitrim.backbones.weights.wrappers import find_backbone

    content = read_weights(place)
    rows = [("kind", "weights file"), ("format", kind), *_counts(content)]
    try:
        found = find_backbone(content, place.name)
    except ValueError as error:
        return [*rows, ("looks like", f"nothing that vitrim can load: {error}")]
    classes = classes_in(found.tensors)
    rows.append(("looks like", looks_like(found)))
    rows.append(("classifier", f"{classes} classes" if classes else "none"))
    if found.prefix:
        rows.append(("found below", found.prefix.rstrip("./")))
    if found.passed_over:
        rows.append(
            ("passed over", f"{found.passed_over} tensors that only pretraining or another network needs")
        )
    if found.left_over:
        rows.append(
            ("in the way", f"{len(found.left_over)} tensors without a place: {_short(found.left_over)}")
        )
    return rows


def _counts(tensors: dict[str, Any]) -> Rows:
    kinds = sorted({str(value.dtype).removeprefix("torch.") for value in tensors.values()})
    total = sum(value.numel() for value in tensors.values())
    return [("tensors", f"{len(tensors):,} with {total:,} values ({', '.join(kinds) or 'none'})")]


def _short(value: Any, most: int = 70) -> str:
    if isinstance(value, dict):
        text = ", ".join(f"{key}={one}" for key, one in value.items())
    else:
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple | set) else str(value)
    return text if len(text) <= most else f"{text[:most]}..."
