"""What of a composition a slider can change without training again: how many tokens its reducers leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from vitrim.checks import is_number
from vitrim.network.method import Method

SHARES = tuple(step / 20 for step in range(1, 21))


@dataclass(frozen=True)
class Dial:
    """One slider.

    Attributes:
        setting: "keep" or "r".
        values: where it can stand, rising.
        usual: where the run was trained.
        words: what it does.
    """

    setting: str
    values: tuple[float, ...]
    usual: float
    words: str

    def turned(self, methods: tuple[Method, ...], value: float) -> tuple[Method, ...]:
        """The methods with the dial elsewhere."""
        return tuple(
            _with(method, self.setting, value) if _turns(method, self.setting) else method
            for method in methods
        )


def dial_of(methods: Sequence[Method], patches: int) -> tuple[Dial | None, str]:
    """The slider of a composition, or None and why there is none."""
    reducers = [method for method in methods if method.reduces]
    if not reducers:
        return None, "This run has no reducer: every token passes every block."
    for setting in ("keep", "r"):
        turning = [method for method in reducers if _turns(method, setting)]
        if not turning:
            continue
        usual = float(getattr(turning[0], setting))
        steps = SHARES if setting == "keep" else range(patches // 4 + 1)
        allowed = {usual, *(float(step) for step in steps if _allowed(turning, setting, step))}
        names = " and ".join(dict.fromkeys(type(method).__name__ for method in turning))
        does = "share of the tokens kept" if setting == "keep" else "tokens merged in every block"
        return Dial(setting, tuple(sorted(allowed)), usual, f"{does} ({names})"), ""
    names = " and ".join(dict.fromkeys(type(method).__name__ for method in reducers))
    return None, f"{names} has no one number that says how many tokens stay, so there is no slider for it."


def _turns(method: Method, setting: str) -> bool:
    """Whether a reducer has the setting as one number."""
    return (
        method.reduces
        and setting in {field.name for field in fields(method)}
        and is_number(getattr(method, setting))
    )


def _allowed(methods: Sequence[Method], setting: str, value: float) -> bool:
    try:
        for method in methods:
            _with(method, setting, value)
    except ValueError:
        return False
    return True


def _with(method: Method, setting: str, value: float) -> Method:
    given: Any = int(value) if setting == "r" else float(value)
    return replace(method, **{setting: given})
