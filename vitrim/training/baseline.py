"""The linear probe beside a run: the same backbone, images, epochs, batches and seed; the classifier alone.

What belongs to the other methods is left out: a teacher, rates by part of the model, drop path (which a
frozen backbone cannot adapt to). The learning rate is the run's own where it was given, and chosen for the
probe where it was chosen for the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrim.runs.folder import RunFolder
from vitrim.settings.left_open import AUTO
from vitrim.settings.training import Training

if TYPE_CHECKING:
    from torch import nn

    from vitrim.data import DataSource
    from vitrim.training.loop import Run

FOLDER = "linear-probe"
OF_OTHERS = ("teacher", "distil", "rates", "layer_decay", "frozen_epochs", "drop_path")


def check_baseline(recipe: str | None, methods: object) -> None:
    """Refuse a linear probe beside a linear probe, before anything is trained."""
    if recipe == "linear" or (methods is not None and not methods):
        raise ValueError("this run is the linear probe itself; leave with_baseline out, or choose a recipe")


def train_baseline(
    run: Run,
    backbone: str | nn.Module | None = None,
    data: str | DataSource | None = None,
    *,
    cpu: bool = False,
    quiet: bool = False,
) -> Run:
    """Train the linear probe in a folder of its own inside the run's; continue or reuse one that is there.

    Args:
        run: a finished run.
        backbone, data: the module or data source, where the run was given one.
    """
    from vitrim.training.loop import Run as Found
    from vitrim.training.loop import train

    folder = RunFolder(run.folder / FOLDER)
    begun = folder.record_file.is_file()
    if begun and folder.record().get("status") == "finished":
        return reopened(folder, Found)
    settings = run.record["settings"]
    size, patch = settings["image_size"], settings.get("patch_size")
    return train(
        backbone if backbone is not None and not isinstance(backbone, str) else settings["model"],
        settings["data"] if data is None or isinstance(data, str) else data,
        recipe="linear",
        out=folder.path,
        training=None if begun else equal_training(run.record),
        pretrained=settings["pretrained"] or None,
        weights=settings["weights"],
        image_size=(size[0], size[1]) if size else None,
        in_chans=settings.get("in_chans"),
        patch_size=(patch[0], patch[1]) if patch else None,
        root=settings["root"],
        resume=begun,
        cpu=cpu,
        quiet=quiet,
    )


def equal_training(record: Mapping[str, Any]) -> dict[str, object]:
    """The run's training settings without what belongs to its methods."""
    usual, own = Training().to_json(), dict(record["settings"]["training"])
    own |= {name: usual[name] for name in OF_OTHERS}
    return own | ({"lr": AUTO} if "lr" in record.get("chosen", {}) else {})


def reopened(folder: RunFolder, found: type[Run]) -> Run:
    """A finished probe as `train` returned it."""
    from vitrim.runs.evaluate import Metrics
    from vitrim.runs.opening import open_model

    record = folder.record_to_show()
    shown = {name: record["results"][name] for name in ("top1", "mean_per_class", "loss", "images")}
    return found(Path(folder.path), open_model(folder.path), Metrics(**shown), record)
