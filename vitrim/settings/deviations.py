"""What a run does other than the published protocol it follows: recorded in run.json, printed when it starts
and in its report.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vitrim.settings.protocols import find_protocol, values_for
from vitrim.settings.protocols.task_values import method_part, training_part

if TYPE_CHECKING:
    from vitrim.settings.run_plan import RunPlan

# What belongs to a machine or a repetition, not to a protocol; how the epoch is picked is said by itself.
NOT_COMPARED = (
    "workers",
    "bad_images",
    "gradient_checkpointing",
    "cache_frozen",
    "deterministic",
    "seed",
    "select",
    "patience",
)


def deviations(plan: RunPlan) -> list[dict[str, Any]]:
    """Each setting in which a plan is not its protocol: its name, the protocol's value, the plan's."""
    if plan.protocol is None:
        return []
    protocol = find_protocol(plan.protocol)
    own = values_for(protocol, plan.data) if plan.per_task else {}
    theirs = protocol.training.changed(training_part(own)).to_json()
    found = [
        {"setting": name, "protocol": theirs[name], "yours": value}
        for name, value in plan.training.to_json().items()
        if name not in NOT_COMPARED and value != theirs[name]
    ]
    settings = method_settings(plan.methods)
    for name, value in method_part(own).items():
        if name in settings and settings[name] != value:
            found.append({"setting": name, "protocol": value, "yours": settings[name]})
    return found


def protocol_record(plan: RunPlan) -> dict[str, Any] | None:
    """What run.json says about the protocol; None where there is none."""
    if plan.protocol is None:
        return None
    protocol = find_protocol(plan.protocol)
    return {
        "name": plan.protocol,
        "follows": protocol.follows,
        "checkpoint": protocol.checkpoint,
        "reported": protocol.reported,
        "unstated": list(protocol.unstated),
        "differs": list(protocol.differs),
        "task_values": values_for(protocol, plan.data) if plan.per_task else {},
        "deviations": deviations(plan),
    }


def in_words(found: Sequence[Mapping[str, Any]]) -> str:
    """lr 0.01 (protocol: 0.002), ..."""
    return ", ".join(f"{each['setting']} {each['yours']} (protocol: {each['protocol']})" for each in found)


def method_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Every setting of methods in their text form, by "Method.setting"."""
    from vitrim.methods.notation import parse_method

    found = {}
    for method in map(parse_method, texts):
        for field in dataclasses.fields(method):
            found[f"{type(method).__name__}.{field.name}"] = getattr(method, field.name)
    return found
