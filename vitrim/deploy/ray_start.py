"""Ray is started or joined here alone, and reports to nobody."""

from __future__ import annotations

import os
from typing import Any


def start_ray(options: dict[str, Any]) -> None:
    """`ray.init` with these options; a cluster that it starts does not tell its makers, unless the user said
    that it may."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    ray.init(log_to_driver=False, **options)
