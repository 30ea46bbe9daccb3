"""Copies of modules, in half the time of `copy.deepcopy`."""

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def copied(module: AnyModule, instead: Mapping[int, Any] | None = None) -> AnyModule:
    """A deep copy; `instead` holds what takes the place of an object, by the object's `id`.

    Every module has ten tables of hooks, nearly all empty, and copying them object by object takes longer
    than copying the weights: here the copy gets new empty ones.
    """
    memo: dict[int, Any] = {}
    for part in module.modules():
        for table in vars(part).values():
            if type(table) in (dict, OrderedDict) and not table:
                memo[id(table)] = type(table)()
    return copy.deepcopy(module, memo | dict(instead or {}))
