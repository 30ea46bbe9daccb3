"""Scores in a file: measured once, used for many choices, or supplied by the user."""

import json
from pathlib import Path
from typing import ClassVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from vitrim.bounds import Count, Format, Name, Open
from vitrim.methods.selection.scores import Scores
from vitrim.reading import parse_json
from vitrim.writing import write_whole


class AboutScores(Open):
    """What a file of scores says about itself; nothing, where it is not ours."""

    FORMAT: ClassVar[int] = 1
    format: Format = 1
    measure: Name = ""
    loss: Name = ""
    images: Count = 0


def save_scores(scores: Scores, path: str | Path) -> None:
    """Write scores to a safetensors file; it appears whole or not at all."""
    about = {
        "format": AboutScores.FORMAT,
        "measure": scores.measure,
        "loss": scores.loss,
        "images": scores.images,
    }
    values = {name: value.cpu().contiguous() for name, value in scores.values.items()}
    write_whole(Path(path), to_bytes(values, metadata={"vitrim-scores": json.dumps(about)}))


def load_scores(path: str | Path) -> Scores:
    """Read what `save_scores` wrote, or any safetensors file of non-negative matrices under the names of a
    backbone's weights.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no scores file {str(path)!r}")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("vitrim-scores", "{}")
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{str(path)!r} is not a readable safetensors file ({error})") from error
    about = parse_json(text, AboutScores, repr(str(path)))
    return Scores(values, about.get("measure", ""), about.get("loss", ""), about.get("images", 0))
