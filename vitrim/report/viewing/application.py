"""The page's application: the serving application with the page's routes, for this machine only."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI

from vitrim.deploy.pool import AdapterPool
from vitrim.deploy.serving.application import make_application
from vitrim.deploy.serving.settings import LOOPBACK, Serving
from vitrim.report.viewing.routes import PAGES, view_router
from vitrim.report.viewing.variants import Viewed

MOST_RUNS = 2


def check_viewing(runs: Mapping[str, Path], host: str) -> None:
    """Refuse what cannot be viewed before anything is loaded."""
    if host not in LOOPBACK:
        raise ValueError(
            f"view: host must be {', '.join(LOOPBACK[:-1])} or {LOOPBACK[-1]}, got {host!r}; the page is for "
            "this machine only, vitrim serve answers others"
        )
    if len(runs) > MOST_RUNS:
        raise ValueError(f"view: give one run, or two to compare, got {len(runs)}")


def view_application(runs: Mapping[str, Path], serving: Serving) -> FastAPI:
    """One or two runs on a page at /view."""
    check_viewing(runs, serving.host)
    turn = threading.Lock()
    viewed = {name: Viewed(name, path, turn) for name, path in runs.items()}
    pool = AdapterPool(next(iter(viewed.values())).base)
    return make_application(pool, serving, (view_router(viewed),), PAGES)
