"""All methods by name, and the text notation that writes and reads them."""

import ast
from dataclasses import fields
from typing import Any, TypeVar

from vitrim.checks import did_you_mean
from vitrim.methods.plugins import load_installed
from vitrim.methods.tables import METHODS as METHODS
from vitrim.methods.tables import REDUCERS as REDUCERS
from vitrim.methods.tables import TUNERS as TUNERS
from vitrim.network.method import Method, refuse_absent

UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
"""what the parser raises: the last two for text that is nested or chained too deep, as no method is"""
Settings = TypeVar("Settings")
SHOWN = 200  # characters of such text in a sentence


def parse_method(text: str) -> Method:
    """The method written as text: `parse_method("EViT(keep=0.7, at=(3, 6, 9))") == EViT(keep=0.7, at=(3, 6,
    9))`.

    A name alone stands for the method with its defaults. Raises ValueError for anything else, saying what is
    allowed.
    """
    name, call = _read_call(text, "method", "EViT(keep=0.7, at=(3, 6, 9))")
    kind = method_class(name)
    return kind(**_arguments(call, kind, text))


def read_settings(text: str, kind: type[Settings], called: str) -> Settings:
    """One frozen dataclass of settings from the same notation; ValueError for anything else."""
    example = f"{kind.__name__}()"
    name, call = _read_call(text, called, example)
    if name != kind.__name__:
        raise ValueError(f"cannot read {called} {text[:SHOWN]!r}; they are written as {example}")
    return kind(**_arguments(call, kind, text))


def _read_call(text: str, called: str, example: str) -> tuple[str, ast.Call]:
    """The name of what is called, and the call; a name alone is a call without arguments."""
    refusal = f"cannot read {called} {text[:SHOWN]!r}; write it like {example}"
    try:
        expression = ast.parse(text.strip(), mode="eval").body
    except UNREADABLE:
        raise ValueError(refusal) from None
    call = expression if isinstance(expression, ast.Call) else ast.Call(expression, [], [])
    if not isinstance(call.func, ast.Name):
        raise ValueError(refusal)
    return call.func.id, call


def method_class(name: str) -> type[Method]:
    """The class of a method: vitrim's own, a registered one, or one that an installed package offers."""
    if name not in METHODS and not load_installed(name):
        offer = did_you_mean(name, METHODS)
        own = "a method of your own comes with --plugin FILE_OR_MODULE (vitrim.load_plugin in Python)"
        raise ValueError(f"no method {name!r}; {offer}" + ("" if offer.startswith("did") else f"; {own}"))
    return METHODS[name]


def _arguments(call: ast.Call, kind: type[Any], text: str) -> dict[str, Any]:
    """The call's arguments by setting name, literals only."""
    names = [f.name for f in fields(kind)]
    if len(call.args) > len(names):
        raise ValueError(
            f"{text!r} gives {len(call.args)} values, but {kind.__name__} has only {', '.join(names)}"
        )
    given = dict(zip(names, call.args, strict=False))
    for keyword in call.keywords:
        refuse_absent(kind, keyword.arg)
        if keyword.arg not in names:
            raise ValueError(
                f"{kind.__name__} has no setting {keyword.arg!r}; {did_you_mean(str(keyword.arg), names)}"
            )
        if keyword.arg in given:
            raise ValueError(f"{text!r} sets {keyword.arg} twice")
        given[keyword.arg] = keyword.value
    return {name: _literal(value, name, kind) for name, value in given.items()}


def _literal(value: ast.expr, name: str, kind: type[Any]) -> Any:
    try:
        return ast.literal_eval(value)
    except (*UNREADABLE, TypeError):
        raise ValueError(
            f"{kind.__name__}: {name} must be a plain value, got {_written(value)}; put text in quotes"
        ) from None


def _written(value: ast.expr) -> str:
    try:
        return ast.unparse(value)[:SHOWN]
    except RecursionError:
        return "a value nested too deep to write"
