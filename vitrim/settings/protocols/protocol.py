"""What a published training protocol is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vitrim.settings.training import Training


@dataclass(frozen=True)
class Protocol:
    """How a paper or its released code trains on one benchmark.

    Attributes:
        training: the settings. `select` is left open: ours is val where images are held out, otherwise last.
        follows: the source: release, paper or table.
        checkpoint: the weights it starts from, which go with `training.normalise`; None where it does not
            say.
        reported: how the source chose the epoch whose figures it prints: best-on-test, val or last.
        unstated: settings that the source leaves open, filled in here.
        differs: what the source does that these settings do not.
        per_task: what it changes for single tasks: settings of `Training`, or "Method.setting".
        searched: settings it chooses per task on validation images, with the values tried.
    """

    training: Training
    follows: str
    checkpoint: str | None = None
    reported: str = "best-on-test"
    unstated: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()
    per_task: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    searched: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
