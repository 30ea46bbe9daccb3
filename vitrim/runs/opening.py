"""Open what the user points at, a run folder or a saved model file, as a model."""

from __future__ import annotations

from pathlib import Path

from vitrim.network.model import StagedViT
from vitrim.runs.folder import RunFolder


def open_model(
    run: str | Path, device: str = "cpu", image_size: int | tuple[int, int] | None = None
) -> StagedViT:
    """The trained model of a run folder, or of a model.safetensors file, in evaluation mode; with
    `image_size`, for images of another size than it was trained on."""
    from vitrim.files.saving import load

    return load(model_file_of(run), device=device, image_size=image_size).eval()


def model_file_of(run: str | Path) -> Path:
    """The saved model of a run folder, or the file itself."""
    path = Path(run)
    if path.is_dir():
        folder = RunFolder.open(path)
        if (path / "vision.safetensors").is_file():
            folder.check_not_retrieval(folder.record())
        if not folder.model_file.is_file():
            raise FileNotFoundError(
                f"{run} has no model yet: its training has not finished; continue it with resume"
            )
        return folder.model_file
    if not path.exists():
        raise FileNotFoundError(f"there is no run folder or model file {run}")
    return path


def data_of_run(run: str | Path, root: str | Path | None) -> tuple[str, str | Path | None]:
    """The data a run was trained on: its spec, and the root given or recorded."""
    path = Path(run)
    if not path.exists():
        raise FileNotFoundError(f"there is no run folder or model file {run}")
    if not path.is_dir():
        raise ValueError(
            f"the model file {run} does not say what to measure on; give data, for example digits"
        )
    settings = RunFolder.open(path).settings()
    if missing := {"data", "root"} - set(settings):
        raise ValueError(f"{path / 'run.json'} is damaged: it lacks settings.{min(missing)}")
    return settings["data"], settings["root"] if root is None else root
