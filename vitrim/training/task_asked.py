"""The kind of task that a caller asks for, put into the data it is asked of."""

from __future__ import annotations

from pathlib import Path

from vitrim.data import DataSource, with_task
from vitrim.runs.folder import RunFolder
from vitrim.settings.run_plan import DEFAULT_DATA


def asked_task(
    data: str | DataSource | None, task: str, resumed: str | Path | None
) -> str | DataSource | None:
    """The data, read as `task` asks; of a run to resume, the task must be the one it was started with."""
    if resumed is not None:
        began = RunFolder.open(resumed).record().get("data", {}).get("task", "classify")
        if began != task:
            raise ValueError(
                f"this run was started with task={began}, so it cannot be resumed with {task}; leave task "
                "out to resume, or start a new run in another folder"
            )
        return data
    if isinstance(data, DataSource):
        if data.task != task:
            raise ValueError(f"{data.spec} is opened as {data.task}, but task={task} was asked for")
        return data
    return with_task(DEFAULT_DATA if data is None else data, task)
