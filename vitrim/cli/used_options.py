"""Options that a verb has and one kind of run has no use for: refused, never passed over in silence."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import Namespace

ALWAYS = ("config", "plugin", "run", "images", "cpu", "quiet")  # of every kind


def refuse_unused(chosen: Namespace, used: Collection[str], kind: str) -> None:
    """Refuse what was given and is not among the options that a kind of run uses.

    Args:
        chosen: the options, with the names of those `given` otherwise than usual.
        used: names of the options that mean something here.
        kind: what the run is about, for the sentence.
    """
    unused = [name for name in chosen.given if name not in used and name not in ALWAYS]
    if unused:
        raise ValueError(f"--{unused[0]} has no meaning for {kind}; leave it out")
