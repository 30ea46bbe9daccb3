"""What a finished run said to every test picture, in `answers.safetensors` of its folder: for calibration,
and for the pictures it was most wrong or least sure about. Runs of earlier versions have no such file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from vitrim.writing import write_whole

FILE = "answers.safetensors"


@dataclass(frozen=True)
class Answered:
    """Answers in the order of the split.

    Attributes:
        split, pictures: which pictures, as in tested.json.
        answers: [N, columns], as the kind of task keeps them: of a classifier the class and its probability.
        losses: [N].
    """

    split: str
    pictures: str
    answers: Tensor
    losses: Tensor


def write_answered(folder: Path, answered: Answered) -> None:
    values = {
        "answers": answered.answers.float().contiguous(),
        "losses": answered.losses.float().contiguous(),
    }
    told = {"split": answered.split, "pictures": answered.pictures}
    write_whole(folder / FILE, to_bytes(values, metadata=told))


def read_answered(folder: Path, images: int) -> Answered | None:
    """What a run folder holds for a split of so many images; None where there is none.

    Raises:
        ValueError: for a file that is damaged, or of another number of images.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            told = opened.metadata() or {}
            answers, losses = (opened.get_tensor(name) for name in ("answers", "losses"))
    except (SafetensorError, OSError) as error:
        raise ValueError(_damaged(file, str(error))) from error
    fits = answers.dim() == 2 and losses.dim() == 1 and len(answers) == len(losses) == images
    if not fits or answers.dtype != torch.float32 or not bool(answers.isfinite().all()):
        raise ValueError(_damaged(file, f"it does not hold one answer to each of {images} images"))
    return Answered(told.get("split", ""), told.get("pictures", ""), answers, losses)


def _damaged(file: Path, why: str) -> str:
    return f"{file} is damaged and cannot be read: {why}; take it away, or train the run again"
