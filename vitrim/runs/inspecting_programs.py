"""What an exported file says of itself: metadata is read, and nothing of the program is loaded or run."""

from __future__ import annotations

import platform
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from vitrim.reading import MOST_BYTES, loose_json, parse_json

KEY = "vitrim"  # under which exports keep what is known about the model
MACHINE = ("AOTI_PLATFORM", "AOTI_MACHINE", "AOTI_DEVICE_KEY", "AOTI_CPU_ISA", "AOTI_COMPUTE_CAPABILITY")
VECTORS = ("DEFAULT", "AVX2", "AVX512")  # what torch says of x86 processors, each beyond the one before
UNREADABLE = (zipfile.BadZipFile, OSError, EOFError, UnicodeDecodeError, NotImplementedError, zlib.error)
Rows = list[tuple[str, str]]


def inspect_program(place: Path) -> Rows:
    """Labels and what stands behind them, of a file that ends in .onnx or .pt2."""
    if place.suffix.lower() == ".onnx":
        return _onnx(place)
    text, needs = _note_in(place)
    if text is None:
        raise ValueError(
            f"{place.name!r} is a program that vitrim did not export, so it says nothing of its model unless "
            "it is opened, which can run what its author put in"
        )
    opened = "torch.export.load" if needs is None else "torch._inductor.aoti_load_package"
    rows = [("kind", f"program for {opened}, exported by vitrim"), *_about(text, place)]
    return rows if needs is None else [*rows, ("needs", ", ".join(filter(None, needs.values())))]


def is_program(place: Path) -> bool:
    """Whether this is a model as a program of its own, rather than weights."""
    kind = place.suffix.lower()
    return kind == ".onnx" or (kind == ".pt2" and zipfile.is_zipfile(place))


def _onnx(place: Path) -> Rows:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ModuleNotFoundError:
        raise ValueError("looking into an .onnx file needs onnx; pip install 'vitrim[export]'") from None
    try:
        model = onnx.load(str(place), load_external_data=False)
    except DecodeError as error:
        raise ValueError(f"{place.name!r} cannot be read as an ONNX model: {error}") from None
    if not model.graph.output:
        raise ValueError(f"{place.name!r} cannot be read as an ONNX model: it gives nothing")
    text = next((entry.value for entry in model.metadata_props if entry.key == KEY), None)
    kind = [("kind", f"ONNX model{'' if text is None else ' exported by vitrim'}")]
    shapes = [("takes", _shapes(model.graph.input)), ("gives", _shapes(model.graph.output))]
    opset = [("opset", str(entry.version)) for entry in model.opset_import if not entry.domain]
    if text is not None:
        return [*kind, *_about(text, place), *shapes, *opset]
    made = [("made by", f"{model.producer_name or 'unknown'} {model.producer_version}".strip())]
    return [*kind, *made, *shapes, *opset, ("in vitrim", "no verb takes it: it does not say its classes")]


def _shapes(values: Any) -> str:
    """Names, types and sizes of inputs or outputs."""
    from onnx import TensorProto

    said = []
    for value in values:
        tensor = value.type.tensor_type
        sides = [side.dim_param or str(side.dim_value) for side in tensor.shape.dim]
        kind = TensorProto.DataType.Name(tensor.elem_type).lower()
        said.append(f"{value.name} [{', '.join(sides)}] {kind}")
    return "; ".join(said)


def refuse_other_machine(place: Path) -> None:
    """Refuse machine code that this machine cannot run; opening it would end the process."""
    needs = _note_in(place)[1] or {}
    here = {"AOTI_PLATFORM": sys.platform, "AOTI_MACHINE": platform.machine()}
    lacking = [needs[name] for name, own in here.items() if needs.get(name, own) != own]
    capable = torch.backends.cpu.get_cpu_capability()
    if capable in VECTORS:  # of other processors torch names no such steps
        beyond = VECTORS[VECTORS.index(capable) + 1 :]
        lacking += [word for word in needs.get("AOTI_CPU_ISA", "").split() if word in beyond]
    if lacking:
        raise ValueError(
            f"{place.name!r} is machine code for {' and '.join(lacking)}, which this machine is not or has "
            "not; export the run on this kind of machine, or leave out --aot"
        )


def _note_in(place: Path) -> tuple[str | bytes | None, dict[str, str] | None]:
    """What an export wrote beside the program; and of machine code what machine it needs."""
    try:
        with zipfile.ZipFile(place) as archive:
            names = archive.namelist()
            own = next((name for name in names if name.endswith(f"/extra/{KEY}")), None)
            if own is not None:
                return _read(archive, own), None
            code = next((name for name in names if name.endswith(".wrapper_metadata.json")), None)
            stored = None if code is None else loose_json(_read(archive, code).decode(), repr(place.name))
    except UNREADABLE as error:
        raise ValueError(f"{place.name!r} cannot be read as a .pt2 file: {error}") from None
    if not isinstance(stored, dict) or not isinstance(stored.get(KEY), str):
        return None, None
    return stored[KEY], {name: str(stored[name])[:100] for name in MACHINE if name in stored}


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as stream:
        text = stream.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise zipfile.BadZipFile(f"{name} has more than {MOST_BYTES:,} bytes")
    return text


def _about(text: str | bytes, place: Path) -> Rows:
    from vitrim.files.about import ProgramAbout

    about = parse_json(text, ProgramAbout, repr(place.name))
    classes, count = about["classes"], about["num_classes"]
    size = "x".join(map(str, about["preprocess"]["image_size"]))
    pixels = "pixels from 0 to 255" if about["raw"] else "normalised images"
    made = about.get("versions") or {}
    named = "" if classes is None else f": {_cut(', '.join(classes))}"
    return [
        ("methods", " ".join(about["methods"]) or "none: a linear probe"),
        ("backbone", about["backbone"]),
        ("classes", f"{count}{named}" if count else "none: it returns features"),
        ("images", f"{size}, {pixels}"),
        ("precision", about["precision"] + (", machine code" if about.get("aot") else "")),
        *([("made by", ", ".join(f"{name} {number}" for name, number in made.items()))] if made else []),
    ]


def _cut(text: str, most: int = 70) -> str:
    return text if len(text) <= most else f"{text[:most]}..."
