"""A protocol's values for one task, taken apart: what is for training and what is for methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitrim.network.method import Method


def training_part(values: Mapping[str, object]) -> dict[str, object]:
    """Of a protocol's values for a task, the training settings."""
    return {name: value for name, value in values.items() if "." not in name}


def method_part(values: Mapping[str, object]) -> dict[str, object]:
    """Of a protocol's values for a task, the settings of methods: "LoRA.scale"."""
    return {name: value for name, value in values.items() if "." in name}


def with_values(methods: Sequence[Method], values: Mapping[str, object]) -> tuple[Method, ...]:
    """Methods with a protocol's values for a task put in; values of other methods are left aside."""
    by_method: dict[str, dict[str, Any]] = {}
    for name, value in method_part(values).items():
        method, _, setting = name.partition(".")
        by_method.setdefault(method, {})[setting] = value
    return tuple(
        dataclasses.replace(method, **by_method.get(type(method).__name__, {})) for method in methods
    )
