"""`export`: a model becomes a file that other programs run. It gets its name only after it was run itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrim.checks import check_number, check_one_of
from vitrim.deploy.arriving import (
    Exported,
    about_model,
    check_folder,
    megabytes,
    name_it,
    refuse_differing,
    unnamed,
)
from vitrim.deploy.check import PICTURES, compare
from vitrim.deploy.exported import ExportedModel, open_exported
from vitrim.deploy.inference import InferenceModel, ready
from vitrim.deploy.int8 import CALIBRATION, MEASURED, accuracy, quantise
from vitrim.deploy.pictures import HELD_OUT, data_for, labelled, some
from vitrim.deploy.plain import LIBRARIES, export_plain
from vitrim.deploy.programs import program_of, write_compiled, write_onnx, write_pt2
from vitrim.network.copying import copied
from vitrim.network.model import StagedViT
from vitrim.runs.opening import open_model
from vitrim.video.refusing import refuse_clips

if TYPE_CHECKING:
    from vitrim.data import DataSource

PRECISIONS = {"onnx": ("fp32", "fp16", "int8"), "pt2": ("fp32", "fp16", "bf16")}


@dataclass(frozen=True)
class _Asked:
    to: str
    precision: str
    portable: bool
    raw: bool
    aot: bool
    max_drop: float


def export(
    model: StagedViT | str | Path,
    path: str | Path,
    *,
    to: str | None = None,
    precision: str = "fp32",
    portable: bool = False,
    raw: bool = False,
    aot: bool = False,
    max_drop: float = 1.0,
    data: str | None = None,
    root: str | Path | None = None,
) -> Exported:
    """Write a model, a run or a saved model file for other programs: as .onnx or .pt2, with a free batch
    size, or as plain weights for timm, torchvision or transformers.

    What folds is folded, on a copy. The new file is run at batches 1, 3 and 8 on real pictures and compared
    with the model; only if they agree does it get its name, with the figures in `NAME.check.json` beside it.

    Args:
        path: ends in .onnx (ONNX Runtime and others) or .pt2 (`torch.export.load`); with `to`, in
            .safetensors, or names a new folder for transformers.
        to: "timm", "torchvision" or "transformers": plain weights, for compositions of which nothing stays
            once all is folded that folds; they are checked by running that library's own model.
        precision: fp32, fp16, bf16 (.pt2) or int8 (.onnx; calibrated on training pictures).
        portable: one-hot products instead of scatters, for engines that cannot scatter.
        raw: take pixels [B, height, width, 3] in uint8 instead of normalised images [B, 3, height, width].
        aot: compile a .pt2 to machine code with AOTInductor; needs a C++ compiler.
        max_drop: points of accuracy on validation pictures that int8 may lose.
        data, root: where the pictures come from; not given: the run's own data, or the bundled digits for a
            model that has none.

    Raises:
        ValueError: for a composition that cannot leave, or a file that does not agree with the model.
    """
    target = Path(path)
    if to in LIBRARIES:
        if precision != "fp32" or portable or raw or aot:
            raise ValueError(
                f"--to {to} writes plain float32 weights; precision, portable, raw and aot go with onnx and "
                "pt2"
            )
        return export_plain(model, target, to, data, root)
    check_one_of("export", "to", to, (None, *PRECISIONS, *LIBRARIES))
    if to is not None and target.suffix.lower() != f".{to}":
        raise ValueError(f"--to {to} writes a file that ends in .{to}, got --out {target}")
    asked = _Asked(_kind(target), precision, portable, raw, aot, max_drop)
    _check(asked)
    staged = model if isinstance(model, StagedViT) else open_model(model)
    refuse_clips(staged, "export")
    if precision == "int8" and staged.task != "classify":
        raise ValueError(
            f"int8 is accepted by the share of pictures it gets right, which a model of task {staged.task} "
            "does not have; choose fp32 or fp16"
        )
    source = data_for(model, data, root)
    prepared = ready(staged, "fp32" if precision == "int8" else precision, raw, portable)
    about = _about(staged, asked)
    with unnamed(target) as part:
        opset = _write(prepared, asked, about, source, part)
        if opset is not None:
            about["opset"] = opset
        done = _checked(staged, open_exported(part, trust=True), asked, source, target, about, part)
        name_it(part, done)
    return done


def _kind(target: Path) -> str:
    kind = target.suffix.lower().removeprefix(".")
    if kind not in PRECISIONS:
        raise ValueError(
            f"an exported file ends in .onnx or .pt2, which says what it is; got {target.name!r}"
        )
    check_folder(target)
    return kind


def _check(asked: _Asked) -> None:
    check_one_of("export", f"precision of .{asked.to}", asked.precision, PRECISIONS[asked.to])
    check_number("export", "max_drop", asked.max_drop)
    if asked.max_drop < 0:
        raise ValueError(f"export: max_drop must be 0 or more points, got {asked.max_drop!r}")
    if asked.aot and asked.to != "pt2":
        raise ValueError("aot compiles a .pt2 file; give a path that ends in .pt2")
    if asked.raw and asked.precision == "int8":
        raise ValueError("int8 takes normalised images here; leave out raw, or choose fp32 or fp16")


def _write(
    prepared: InferenceModel, asked: _Asked, about: dict[str, Any], source: DataSource, part: Path
) -> int | None:
    """Write what was asked for; the opset where it is ONNX."""
    program = program_of(prepared, asked.portable)
    if asked.to == "pt2":
        (write_compiled if asked.aot else write_pt2)(program, about, part)
        return None
    if asked.precision != "int8":
        return write_onnx(program, about, part)
    floats = part.with_name(f"{part.stem}-fp32.onnx")
    try:
        opset = write_onnx(program, about, floats)
        preprocess = prepared.model.preprocess
        quantise(floats, part, some(source, preprocess, CALIBRATION, ("train", "val", "test")))
    finally:
        floats.unlink(missing_ok=True)
    return opset


def _checked(
    staged: StagedViT,
    exported: ExportedModel,
    asked: _Asked,
    source: DataSource,
    target: Path,
    about: dict[str, Any],
    part: Path,
) -> Exported:
    """Run the file beside the model; refused with the figures where they do not agree."""
    whole = copied(staged).cpu().float().eval()  # what leaves is compared with what was trained
    images = some(source, staged.preprocess, PICTURES, HELD_OUT)
    pictures, classes = f"pictures of {source.spec}", staged.num_classes > 0
    agreement = compare(whole, exported, images, pictures, asked.precision, classes)
    shares = None
    if agreement.agrees and asked.precision == "int8" and staged.num_classes == len(source.classes):
        held_out = labelled(source, staged.preprocess, MEASURED, HELD_OUT)
        shares = (accuracy(whole, *held_out), accuracy(exported, *held_out))
    refuse_differing(target, agreement)
    if shares is not None and shares[0] - shares[1] > asked.max_drop:
        raise ValueError(
            f"{target.name} was not written: in 8 bits {shares[1]:.2f} % are right instead of "
            f"{shares[0]:.2f} %, which is more than the {asked.max_drop:g} points allowed (max_drop)"
        )
    return Exported(target, agreement, about, megabytes(part), shares)


def _about(staged: StagedViT, asked: _Asked) -> dict[str, Any]:
    """What the file says about itself."""
    return {
        **about_model(staged),
        "precision": asked.precision,
        "portable": asked.portable,
        "raw": asked.raw,
        "aot": asked.aot,
    }
