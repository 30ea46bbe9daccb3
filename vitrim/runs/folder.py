"""The folder a run lives in: run.json, history.jsonl, checkpoints/, model.safetensors.

Every file is either whole or absent, whenever the process is killed: files are written beside their place,
flushed to the disk and moved there in one step. History lines are appended before the checkpoint that ends
the same epoch, so a resumed run cuts the history back to its checkpoint and goes on.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vitrim.reading import parse_json, read_json, text_of
from vitrim.runs.checkpoint_files import read_state, write_state
from vitrim.runs.lock import HOLDER, LOCK, alone_in
from vitrim.settings.run_plan import RunPlan
from vitrim.writing import write_whole, writing

if TYPE_CHECKING:
    from accelerate import Accelerator

KEPT_CHECKPOINTS = 2
Record = TypeVar("Record", bound=Mapping[str, Any])


class RunFolder:
    """Reads and writes one run folder; holds nothing but the path."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.model_file = self.path / "model.safetensors"
        self.record_file = self.path / "run.json"
        self.history_file = self.path / "history.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.frozen = self.path / "frozen"  # what frozen blocks say of the images, while a run needs it

    @classmethod
    def create(cls, path: str | Path) -> RunFolder:
        """A new, empty run folder; refused where something already lies."""
        folder = cls(path)
        if folder.path.exists() and not folder.path.is_dir():
            raise FileExistsError(f"{path} is a file, so no run folder can be made there; choose another out")
        if folder.path.is_dir() and any(not begun(entry) for entry in folder.path.iterdir()):
            what = "already holds a run" if folder.record_file.exists() else "is not empty"
            raise FileExistsError(f"{path} {what}; choose another out, or continue a run with resume")
        with writing(folder.path):
            folder.checkpoints.mkdir(parents=True, exist_ok=True)
        return folder

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """An existing run folder."""
        folder = cls(path)
        if not folder.record_file.is_file():
            raise FileNotFoundError(
                f"{path} is not a run folder: it has no run.json; give the folder of a vitrim run"
            )
        return folder

    def clear_leftovers(self) -> None:
        """Remove what a killed process left half-written."""
        for entry in (*filter(leftover, self.path.glob(".*.*")), *self.checkpoints.glob(".*.*")):
            entry.unlink(missing_ok=True)  # the folder of checkpoints is all ours

    def clear_frozen(self) -> None:
        """Remove what was kept of frozen blocks, which can be computed again."""
        if self.frozen.is_dir():
            shutil.rmtree(self.frozen, ignore_errors=True)

    def remove(self) -> None:
        """Take back a run that came to nothing: what was made for it, and the folder if that was all."""
        self.clear_leftovers()
        for state in self.checkpoints.glob("*.pt"):
            state.unlink()
        self.clear_frozen()
        for file in (self.record_file, self.history_file, self.path / HOLDER, self.path / LOCK):
            file.unlink(missing_ok=True)
        with suppress(OSError):  # something else lies there, which stays
            self.checkpoints.rmdir()
            self.path.rmdir()

    def record(self) -> dict[str, Any]:
        """What run.json says, typed and within bounds; it need not be complete."""
        from vitrim.runs.records import record_schema

        return read_json(self.record_file, record_schema())

    def record_to_show(self) -> dict[str, Any]:
        """The same of a finished run, with all that its report shows."""
        from vitrim.runs.records import NEEDED_SHOWN

        return self.with_all(self.record(), NEEDED_SHOWN)

    def record_to_resume(self) -> dict[str, Any]:
        """The same with all that going on needs."""
        from vitrim.runs.records import NEEDED_RESUMED

        return self.with_all(self.record(), NEEDED_RESUMED)

    def with_all(self, record: Record, needed: tuple[str, ...]) -> Record:
        """The record, unless it lacks something of what is needed."""
        from vitrim.runs.records import lacking

        self.check_not_retrieval(record)
        if missing := lacking(record, needed):
            raise ValueError(f"{self.record_file} is damaged or of another version: it lacks {missing}")
        return record

    def check_not_retrieval(self, record: Mapping[str, Any]) -> None:
        """Refuse a run of pictures and captions, which has neither classes nor one model file."""
        if record.get("data", {}).get("task") == "retrieval":
            raise ValueError(
                f"{self.path} is a run of image-text retrieval, which vitrim evaluate, predict and index take"
            )

    def settings(self) -> dict[str, Any]:
        """What the run was asked for."""
        record = self.record()
        self.check_not_retrieval(record)
        settings = record.get("settings")
        if settings is None:
            raise ValueError(f"{self.record_file} is damaged: it does not say what was run")
        return settings

    def write_record(self, record: Mapping[str, Any]) -> None:
        write_whole(self.record_file, (json.dumps(record, indent=2) + "\n").encode())

    def history(self) -> list[dict[str, Any]]:
        """One row per finished epoch; a line cut off by a kill is left out."""
        if not self.history_file.exists():
            return []
        from vitrim.runs.beside import HistoryRow

        lines = text_of(self.history_file).split(b"\n")
        if lines[-1] and not lines[-1].endswith(b"}"):
            lines.pop()
        rows = []
        for number, line in enumerate(lines, start=1):
            if line.strip():
                rows.append(parse_json(line, HistoryRow, f"line {number} of {self.history_file}"))
        return rows

    def append_history(self, row: Mapping[str, Any]) -> None:
        with writing(self.history_file), self.history_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def cut_history(self, epochs: int) -> None:
        """Keep the rows of the first `epochs` epochs."""
        rows = [row for row in self.history() if row["epoch"] <= epochs]
        write_whole(self.history_file, "".join(json.dumps(row) + "\n" for row in rows).encode())

    def save_checkpoint(self, epoch: int, state: Mapping[str, Any]) -> None:
        """The state after `epoch` epochs; older ones are removed once this one is safe."""
        self.checkpoints.mkdir(exist_ok=True)
        write_state(self.checkpoints / f"epoch-{epoch:05d}.pt", state)
        for old in self._by_epoch()[:-KEPT_CHECKPOINTS]:
            old.unlink(missing_ok=True)

    def last_checkpoint(self) -> dict[str, Any] | None:
        """The newest one; None before the first epoch is done."""
        found = self._by_epoch()
        if found:
            return read_state(found[-1])
        if len(self.history()) > 1:  # a kill can leave one row without its checkpoint, but no more
            raise FileNotFoundError(
                f"{self.checkpoints} holds no checkpoint, though {len(self.history())} epochs were trained; "
                "put the files back to go on, or start a new run in another folder"
            )
        return None

    def save_best(self, epoch: int, state: Mapping[str, Any]) -> None:
        """Weights of the best epoch so far; the one before stays until a checkpoint names this one."""
        write_state(self._best(epoch), state)

    def best(self, epoch: int) -> dict[str, Any]:
        return read_state(self._best(epoch))

    def drop_other_bests(self, *epochs: int) -> None:
        for old in self.checkpoints.glob("best-*.pt"):
            if old not in map(self._best, epochs):
                old.unlink(missing_ok=True)

    def _best(self, epoch: int) -> Path:
        return self.checkpoints / f"best-{epoch:05d}.pt"

    def _by_epoch(self) -> list[Path]:
        return sorted(self.checkpoints.glob("epoch-*.pt"), key=lambda path: int(path.stem.split("-")[1]))


def claim_folder(
    out: str | Path | None, plan: RunPlan, resume: bool, accelerator: Accelerator, held: ExitStack
) -> RunFolder:
    """The folder to write to, the same for all processes: the given one, or a fresh one under runs/. No other
    run may write to it until `held` is closed. A refusal reaches all processes: none waits for the others."""
    from accelerate.utils import broadcast_object_list

    found: list[Any] = [None]  # the path, or why there is none
    if accelerator.is_main_process:
        try:
            if resume:
                folder = RunFolder.open(str(out))
            else:
                folder = RunFolder.create(out or free_folder(default_folder(plan)))
            held.enter_context(alone_in(folder.path))
            folder.clear_leftovers()
            found = [str(folder.path)]
        except OSError as error:
            found = [error]
    if accelerator.num_processes > 1:
        broadcast_object_list(found)
    if isinstance(found[0], OSError):
        raise found[0]
    return RunFolder(found[0])


def stored_plan(out: str | Path | None) -> RunPlan:
    """The plan of the run to resume."""
    if out is None:
        raise ValueError("which run to resume? give its folder as out")
    folder = RunFolder.open(out)
    try:
        plan = RunPlan.from_json(folder.settings())
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{folder.record_file} is damaged or of another version of vitrim: it lacks {error}; start "
            "a new run in another folder"
        ) from None
    from vitrim.methods.plugins import check_known

    check_known(plan.methods, folder.record().get("plugins"), f"the run in {out}")
    return plan


def default_folder(plan: RunPlan) -> Path:
    """A name that says what was run, such as runs/sparse-tuning-digits."""
    methods = plan.recipe or "+".join(text.split("(")[0] for text in plan.methods) or "linear"
    # A changed recipe and data have names such as sparse-tuning(width=32) and folder:flowers
    words = re.sub(r"[^\w+]+", "-", f"{methods}-{plan.data}").strip("-")
    return Path("runs") / words


def free_folder(wanted: Path) -> Path:
    """`wanted`, or the first of wanted-2, wanted-3 ... that does not exist yet."""
    path, number = wanted, 2
    while path.exists():
        path, number = wanted.with_name(f"{wanted.name}-{number}"), number + 1
    return path


def begun(path: Path) -> bool:
    """Whether a file or folder is all that a process left that was killed before it had written run.json."""
    if path.name in (LOCK, HOLDER):
        return True
    return leftover(path) or (path.name == "checkpoints" and path.is_dir() and not any(path.iterdir()))


def leftover(path: Path) -> bool:
    """Whether a file is the unfinished part of one that was being written when a process was killed."""
    return re.fullmatch(r"\..+\.\d+\.part", path.name) is not None
