"""All methods by name, and the text notation that writes and reads them."""

import ast
from dataclasses import fields
from typing import Any

from vitrim.checks import did_you_mean
from vitrim.methods.reducers import REDUCERS as REDUCERS
from vitrim.methods.tuners import TUNERS as TUNERS
from vitrim.methods.tuners.batchnorm_head import BatchNormHead
from vitrim.network.method import Method

METHODS: dict[str, type[Method]] = {**REDUCERS, **TUNERS, "BatchNormHead": BatchNormHead}


def parse_method(text: str) -> Method:
    """The method written as text: `parse_method("EViT(keep=0.7, at=(3, 6, 9))") == EViT(keep=0.7, at=(3, 6,
    9))`.

    A name alone stands for the method with its defaults. Raises ValueError for anything else, saying what is
    allowed.
    """
    try:
        expression = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise ValueError(f"cannot read method {text!r}; write it like EViT(keep=0.7, at=(3, 6, 9))") from None
    call = expression if isinstance(expression, ast.Call) else ast.Call(expression, [], [])
    if not isinstance(call.func, ast.Name):
        raise ValueError(f"cannot read method {text!r}; write it like EViT(keep=0.7, at=(3, 6, 9))")
    if call.func.id not in METHODS:
        raise ValueError(f"no method {call.func.id!r}; {did_you_mean(call.func.id, METHODS)}")
    kind = METHODS[call.func.id]
    return kind(**_arguments(call, kind, text))


def _arguments(call: ast.Call, kind: type[Method], text: str) -> dict[str, Any]:
    """The call's arguments by setting name, literals only."""
    names = [f.name for f in fields(kind)]
    if len(call.args) > len(names):
        raise ValueError(
            f"{text!r} gives {len(call.args)} values, but {kind.__name__} has only {', '.join(names)}"
        )
    given = dict(zip(names, call.args, strict=False))
    for keyword in call.keywords:
        if keyword.arg not in names:
            raise ValueError(
                f"{kind.__name__} has no setting {keyword.arg!r}; {did_you_mean(str(keyword.arg), names)}"
            )
        if keyword.arg in given:
            raise ValueError(f"{text!r} sets {keyword.arg} twice")
        given[keyword.arg] = keyword.value
    return {name: _literal(value, name, kind) for name, value in given.items()}


def _literal(value: ast.expr, name: str, kind: type[Method]) -> Any:
    try:
        return ast.literal_eval(value)
    except ValueError:
        written = ast.unparse(value)
        raise ValueError(
            f"{kind.__name__}: {name} must be a plain value, got {written}; put text in quotes"
        ) from None
