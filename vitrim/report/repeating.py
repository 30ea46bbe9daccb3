"""What was run: what differs from the defaults, everything there is, and the command that does it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from html import escape
from typing import Any

from vitrim.report.html import details, facts, heading
from vitrim.report.shown_run import ShownRun
from vitrim.settings.deviations import in_words as deviations_in_words
from vitrim.settings.left_open import CAN_BE_OPEN
from vitrim.settings.training import Training


def what_was_run(run: ShownRun) -> list[str]:
    """A section on one run."""
    record = run.record
    changed = changed_settings(record)
    told = {name: str(value) for name, value in changed.items()} or {"training": "all at their defaults"}
    training = {name: str(value) for name, value in record["settings"]["training"].items()}
    return [
        heading(run.name, 3),
        facts(_facts(record)),
        heading("Training settings changed from the defaults", 3),
        facts(told),
        details("all training settings", facts(training)),
        details("the command that repeats it", f"<pre>{escape(command(record))}</pre>"),
    ]


def changed_settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """Training settings that are not at their defaults."""
    usual = Training().to_json()
    settings = record["settings"]["training"]
    return {name: value for name, value in settings.items() if name in usual and value != usual[name]}


def command(record: Mapping[str, Any]) -> str:
    """`vitrim train` with everything that is not at its default, so that it does the same again."""
    settings = record["settings"]
    if record["backbone"]["kind"] == "module":
        return "# the backbone was a module given in Python; repeat it with vitrim.train(module, ...)"
    words = ["vitrim", "train", "--data", settings["data"]]
    for name in ("root", "model", "weights", "init"):
        if settings.get(name):
            words += [f"--{name}", str(settings[name])]
    if settings.get("pretrained"):
        words.append("--pretrained")
    for name in ("image_size", "patch_size"):
        if settings.get(name):
            words += [f"--{name}", json.dumps(list(settings[name]))]
    if settings.get("in_chans"):
        words += ["--in_chans", str(settings["in_chans"])]
    words += _methods(settings)
    usual = Training().to_json()
    always = {name: settings["training"].get(name, usual[name]) for name in CAN_BE_OPEN}  # else chosen anew
    for name, value in (always | changed_settings(record)).items():
        words += _option(name, value)
    return shlex.join([*words, "--out", "runs/again"])


def _methods(settings: Mapping[str, Any]) -> list[str]:
    methods = list(settings["methods"])
    if not methods:
        return ["--recipe", "linear"]
    return [word for method in methods for word in ("--method", method)]


def _option(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}", str(value).lower()]
    return [f"--{name}", json.dumps(value) if isinstance(value, dict | list) or value is None else str(value)]


def protocol_words(protocol: Mapping[str, Any] | None) -> str:
    """Which published protocol a run followed, and every setting in which it did not."""
    if protocol is None:
        return "none"
    found = deviations_in_words(protocol["deviations"])
    return f"{protocol['name']}, {protocol['follows']}" + (f"; different here: {found}" if found else "")


def _facts(record: Mapping[str, Any]) -> dict[str, str]:
    settings, images = record["settings"], record["data"]["images"]
    machine = record["machine"]
    counts = ", ".join(f"{count:,} {name}" for name, count in images.items())
    return {
        "methods": ", ".join(settings["methods"]) or "none: only the classifier trains",
        "backbone": f"{settings['model']}, {record['backbone']['kind']} weights",
        "data": f"{record['data']['spec']}: {counts}",
        "protocol": protocol_words(record.get("protocol")),
        "weights kept": f"epoch {record['results']['epoch']} ({record['results']['select']})",
        "tokens after each block": " ".join(map(str, record["costs"]["tokens"])),
        "time": f"{record['seconds_per_epoch']:.1f} s per epoch on {machine.get('gpu') or machine['cpu']}, "
        f"{machine['threads']} threads",
        "versions": ", ".join(f"{name} {number}" for name, number in record["versions"].items()),
    }
