"""Ray is started in one place, where it is told to report to nobody."""

import os
from pathlib import Path
from typing import Any

import pytest

import vitrim
from vitrim.deploy.ray_start import start_ray

ray = pytest.importorskip("ray")
SWITCH = "RAY_USAGE_STATS_ENABLED"


@pytest.mark.parametrize(("before", "then"), [(None, "0"), ("1", "1")])
def test_it_reports_to_nobody_unless_the_user_said_so(
    before: str | None, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str | None, Any]] = []
    monkeypatch.setenv(SWITCH, "")  # so that what is set here is taken back
    monkeypatch.delenv(SWITCH) if before is None else monkeypatch.setenv(SWITCH, before)
    monkeypatch.setattr(ray, "init", lambda **given: asked.append((os.environ.get(SWITCH), given)))
    start_ray({"address": "auto"})
    assert asked == [(then, {"address": "auto", "log_to_driver": False})]


def test_nothing_else_starts_it() -> None:
    package = Path(vitrim.__file__).parent
    found = [file for file in package.rglob("*.py") if "ray.init(" in file.read_text()]
    assert [file.name for file in found] == ["ray_start.py"]
