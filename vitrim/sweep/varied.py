"""The candidates of a search: a composition with some of its settings varied."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product

from vitrim.checks import did_you_mean
from vitrim.network.method import Method, owners
from vitrim.sweep.file import TRAINING_NAMES


@dataclass(frozen=True)
class Candidate:
    """Values of the settings searched over, and the composition they make."""

    values: Mapping[str, object]
    methods: tuple[Method, ...]
    training: Mapping[str, object]

    @property
    def name(self) -> str:
        return " ".join(f"{name}={value!r}" for name, value in self.values.items())


def candidates(methods: Sequence[Method], over: Mapping[str, Sequence[object]]) -> list[Candidate]:
    """Every combination of the values in `over`.

    >>> [candidate.name for candidate in candidates([LoRA()], {"rank": [4, 8], "lr": [1e-3]})]
    ['rank=4 lr=0.001', 'rank=8 lr=0.001']
    """
    if not over:
        raise ValueError("nothing to search over; give over, such as lr=1e-4,1e-3 or scale=0.1,1")
    for name, values in over.items():
        if not values:
            raise ValueError(f"no values for {name} to search over; write {name}=VALUE,VALUE")
        for value in values:
            if list(values).count(value) > 1:
                raise ValueError(f"{name} is to be tried with {value!r} twice; name each value once")
    return [with_values(methods, dict(zip(over, values, strict=True))) for values in product(*over.values())]


def with_values(methods: Sequence[Method], values: Mapping[str, object]) -> Candidate:
    changed, training = list(methods), {}
    for name, value in values.items():
        if name in TRAINING_NAMES:
            training[name] = value
        else:
            indices, setting = find_setting(changed, name)
            for index in indices:
                changed[index] = replace(changed[index], **{setting: value})
    return Candidate(values, tuple(changed), training)


def find_setting(methods: Sequence[Method], name: str) -> tuple[list[int], str]:
    """Which method has the setting `name`, written as scale, or as LoRA.scale where several have it; all
    methods of one kind, where a composition has several in different blocks."""
    owner, _, setting = name.rpartition(".")
    names = [type(method).__name__ for method in methods]
    if owner:
        having = [i for i, each in enumerate(methods) if setting in settings_of(each) and names[i] == owner]
    else:
        having = owners(methods, setting)
    kinds = list(dict.fromkeys(names[index] for index in having))
    if len(kinds) == 1:
        return having, setting
    if having:
        which = " and ".join(kinds)
        raise ValueError(
            f"{which} have a setting {setting}; write {names[having[0]]}.{setting} for one of them"
        )
    known = [each for method in methods for each in settings_of(method)]
    raise ValueError(
        f"no setting {name!r} in {', '.join(names) or 'a composition without methods'} or in training; "
        f"{did_you_mean(setting, [*known, *TRAINING_NAMES])}"
    )


def settings_of(method: Method) -> list[str]:
    return [each.name for each in fields(method)]  # type: ignore[arg-type]  # every method is a dataclass


def parse_over(text: str) -> tuple[str, list[object]]:
    """A setting and its values, written as scale=0.1,1 or at=(3,6),(4,8)."""
    name, equals, listed = text.partition("=")
    if not equals or not name.strip() or not listed.strip():
        raise ValueError(f"over takes NAME=VALUE,VALUE such as scale=0.1,1, got {text!r}")
    try:
        values = list(ast.literal_eval(f"[{listed}]"))
    except (
        ValueError,
        SyntaxError,
        TypeError,
        RecursionError,
        MemoryError,
    ):  # words, such as schedule=cosine,constant
        values = [word.strip() for word in listed.split(",")]
    return name.strip(), values
