"""A module that is given to `compose` and refused comes back as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def as_before_if_refused(vit: object) -> Iterator[None]:
    """Undo everything that was attached to, exchanged in or frozen of a module when an error passes by."""
    if not isinstance(vit, nn.Module):
        yield
        return
    parts = [(part, {name: _copied(value) for name, value in vars(part).items()}) for part in vit.modules()]
    trained = [(weight, weight.requires_grad) for weight in vit.parameters()]
    try:
        yield
    except BaseException:
        for part, state in parts:
            vars(part).clear()
            vars(part).update(state)
        for weight, trains in trained:
            weight.requires_grad_(trains)
        raise


def _copied(value: Any) -> Any:
    """The containers in which a module keeps its parts; weights stay the same objects."""
    return value.copy() if isinstance(value, dict | list | set) else value
