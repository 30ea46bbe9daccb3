"""A budget as text: "0.6" or "60%" of the plain operations, "12ms" for an image, "1.5MB" on disk."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

FORMS = (
    "a share of the plain operations such as 0.6 or 60%, milliseconds such as 12ms, or a size such as 1.5MB"
)


@dataclass(frozen=True)
class Budget:
    """What a composition may take; None where nothing is asked.

    Attributes:
        share: of the plain backbone's multiply-accumulates in the papers' convention, above 0 to 1.
        milliseconds: for one image on this machine, at the batch size that is measured.
        megabytes: of the file that is stored for each task, classifier included; one is 1,000,000 bytes.
    """

    share: float | None = None
    milliseconds: float | None = None
    megabytes: float | None = None

    def __str__(self) -> str:
        asked = []
        if self.share is not None:
            asked.append(f"{self.share:g} of the plain operations")
        if self.milliseconds is not None:
            asked.append(f"{self.milliseconds:g} ms for an image")
        if self.megabytes is not None:
            asked.append(f"{self.megabytes:g} MB on disk for each task")
        return "at most " + " and ".join(asked)


def parse_budget(texts: Sequence[str | float]) -> Budget:
    """One budget from one or several texts, each of another kind.

    >>> parse_budget(["60%", "1.5MB"])
    Budget(share=0.6, milliseconds=None, megabytes=1.5)
    """
    if not texts:
        raise ValueError(f"no budget was given; give {FORMS}")
    found: dict[str, float] = {}
    for text in texts:
        kind, value = _parse_one(str(text))
        if kind in found:
            raise ValueError(f"the budget names {kind} twice ({found[kind]:g} and {value:g}); give it once")
        found[kind] = value
    return Budget(**found)


def _parse_one(text: str) -> tuple[str, float]:
    match = re.fullmatch(r"\s*([0-9.eE+-]+)\s*(%|ms|mb|kb)?\s*", text, flags=re.IGNORECASE)
    try:
        value = float(match[1]) if match else math.nan
    except ValueError:
        value = math.nan
    unit = (match[2] or "").lower() if match else ""
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"budget {text!r} is not understood; give {FORMS}")
    if unit == "ms":
        return "milliseconds", value
    if unit in ("mb", "kb"):
        return "megabytes", value / (1 if unit == "mb" else 1000)
    share = value / 100 if unit == "%" else value
    if share > 1:
        raise ValueError(
            f"budget {text!r} is above the plain backbone; a share is above 0 and at most 1, or write "
            "12ms or 1.5MB"
        )
    return "share", share
