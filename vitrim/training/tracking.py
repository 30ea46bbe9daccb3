"""Trackers beside history.jsonl, through Accelerate: TensorBoard, Weights & Biases, MLflow and others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrim.checks import did_you_mean

if TYPE_CHECKING:
    from accelerate import Accelerator

PROJECT = "vitrim"


def check_trackers(names: Sequence[str]) -> None:
    """Refuse a tracker that Accelerate does not know, or whose package is missing."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    if isinstance(names, str):
        raise ValueError(f"track must be a list of trackers, got the text {names!r}; write [{names!r}]")
    ready = {str(name) for name in get_available_trackers()}
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise ValueError(f"no tracker {name!r}; {did_you_mean(name, LOGGER_TYPE_TO_CLASS)}")
        if name not in ready:
            raise ValueError(
                f"the tracker {name!r} needs a package that is not installed; "
                f"pip install {PACKAGES.get(name, name)}, or do without: history.jsonl is written anyway"
            )


PACKAGES = {"comet_ml": "comet-ml"}  # where the package is not called as the tracker is


def start_tracking(
    names: Sequence[str], accelerator: Accelerator, folder: Path, settings: Mapping[str, Any]
) -> None:
    """Start the trackers of a run; those that write files do so in its folder."""
    if not names:
        return
    from accelerate.tracking import filter_trackers

    place = folder / "trackers"
    accelerator.project_configuration.logging_dir = str(place)
    accelerator.log_with = filter_trackers(list(names), str(place))
    place.mkdir(exist_ok=True)
    accelerator.init_trackers(PROJECT, config=plain(settings))


def plain(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings as one level of numbers and text, which every tracker takes."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= plain(value, f"{before}{name}.")
        else:
            found[before + name] = value if isinstance(value, bool | int | float | str) else str(value)
    return found


def track(accelerator: Accelerator, row: Mapping[str, Any]) -> None:
    """Hand a row of the history to the trackers, if there are any."""
    numbers = {name: value for name, value in row.items() if isinstance(value, int | float)}
    if accelerator.trackers:
        accelerator.log(numbers, step=int(row["epoch"]))
