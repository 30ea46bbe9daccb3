"""Names of the package that are imported when they are first used.

`vitrim --help` and reading a Training must not wait for torch and timm. The names stand in the `if
TYPE_CHECKING` block of `vitrim/__init__.py`, as plain imports, so that people, editors and type checkers read
them there; this file reads the same lines.
"""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from inspect import getsource
from types import ModuleType
from typing import Any


class LazyPackage(ModuleType):
    """A package that imports its names on first use.

    `vitrim.compose` and `vitrim.sweep` are functions, and the modules they live in have the same names. Once
    such a module has been imported (`from vitrim.compose import merge`), it stands in the package's
    `__dict__`, so a module-level `__getattr__` would not be asked and `vitrim.compose(...)` would fail with
    "module is not callable". Here, as after a plain import, the name always means the function.
    """

    _homes: dict[str, str]

    def __getattribute__(self, name: str) -> Any:
        homes = super().__getattribute__("__dict__")["_homes"]
        if name in homes:
            return getattr(import_module(homes[name]), name)
        return super().__getattribute__(name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._homes})


def import_names_when_used(package: str) -> None:
    """Make a package lazy; called once, by itself, at the end of its `__init__`."""
    module = sys.modules[package]
    imports = [node for node in ast.walk(ast.parse(getsource(module))) if isinstance(node, ast.ImportFrom)]
    own = [
        node for node in imports if (node.module or "").startswith(f"{package}.") and node.module != __name__
    ]
    module.__dict__["_homes"] = {alias.name: str(node.module) for node in own for alias in node.names}
    module.__dict__["__all__"] = sorted(module.__dict__["_homes"])
    module.__class__ = LazyPackage
