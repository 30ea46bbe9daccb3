"""What a recipe is, and its changed forms: `sparse-tuning(width=32, keep=0.5)`."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from vitrim.checks import did_you_mean
from vitrim.methods.notation import method_class
from vitrim.network.method import Method, owners
from vitrim.settings.protocols import find_protocol
from vitrim.settings.training import Training
from vitrim.video.settings import Video


@dataclass(frozen=True)
class Recipe:
    """A composition that has a name.

    Attributes:
        methods: what is attached to the backbone, in order.
        follows: the paper, and the row of it, that the recipe follows.
        advice: one line on when to use it.
        protocol: name of the published training protocol, or of the nearest that is published where the
            paper is silent.
        video: of recipes for clips, how their frames become one answer.
        expects: "trained" parameters and "gmacs_paper" on ViT-B/16 at 224 pixels without a head, in the
            papers' convention (LayerNorm counted, head not); of clips, a view of 8 frames and 400 classes,
            the pooling of frames left out of the parameters. A test recomputes every entry. Empty where the
            images decide, and for changed forms.
    """

    methods: tuple[Method, ...]
    follows: str
    advice: str
    protocol: str = "vtab/shared"
    expects: Mapping[str, float] = field(default_factory=dict)
    video: Video | None = None

    @property
    def training(self) -> Training:
        """How its protocol optimises. Which images, and the mean and std they are normalised with, belong to
        the protocol's benchmark and checkpoint: they come with `--protocol NAME` alone."""
        return replace(
            find_protocol(self.protocol).training,
            train_split="train", normalise="checkpoint", interpolation="checkpoint", test_crop=1.0,
        )  # fmt: skip

    def changed(self, settings: Mapping[str, object], *methods: str) -> Recipe:
        """A copy with some settings of its methods changed: those that only one of them has by name alone,
        others by method, such as "EViT(keep=0.5)".

        >>> find_recipe("sparse-tuning").changed({"width": 32}, "EViT(at=(4, 8))")
        """
        found = list(self.methods)
        for text in methods:
            name, values = _read(text)
            index = _index(found, name)
            found[index] = _replaced(found[index], values)
        for name, value in settings.items():
            owner = _owner(found, name)
            found[owner] = _replaced(found[owner], {name: value})
        return replace(self, methods=tuple(found), expects={})


def parse_changes(text: str) -> tuple[dict[str, object], tuple[str, ...]]:
    """The changes of "sparse-tuning(EViT(keep=0.5), width=32)", read from "(EViT(keep=0.5), width=32)"."""
    refusal = ValueError(
        f"cannot read the changes {text!r} of a recipe; write them like sparse-tuning(width=32), or "
        "sparse-tuning(EViT(at=(4, 8)), width=32) with methods first"
    )
    try:
        call = ast.parse(f"recipe{text}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or not text.endswith(")"):
            raise refusal
        if any(word.arg is None for word in call.keywords):
            raise refusal
        pairs = [(str(word.arg), ast.literal_eval(word.value)) for word in call.keywords]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise refusal from None
    named = dict(pairs)
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is given twice in {text!r}; give it once")
    return named, tuple(ast.unparse(part) for part in call.args)


def _read(text: str) -> tuple[str, dict[str, object]]:
    """Name and given settings of a method's text."""
    name = text.partition("(")[0].strip()
    method_class(name)
    named, positional = parse_changes(text[len(name) :].strip() or "()")
    if positional:
        raise ValueError(f"name the settings that change in {text!r}, such as {name}(setting=value)")
    return name, named


def _index(methods: list[Method], name: str) -> int:
    names = [type(method).__name__ for method in methods]
    if name not in names:
        raise ValueError(f"the recipe has no {name} to change; it has {', '.join(names) or 'no methods'}")
    return names.index(name)


def _owner(methods: list[Method], setting: str) -> int:
    """The one method that has a setting."""
    having = owners(methods, setting)
    if len(having) == 1:
        return having[0]
    if having:
        first, *others = (type(methods[index]).__name__ for index in having)
        raise ValueError(
            f"{setting} is a setting of {' and of '.join([first, *others])}; say whose, such as "
            f"{first}({setting}=...)"
        )
    known = [name for method in methods for name in _settings(method)]
    if not known:
        raise ValueError(f"no method of the recipe has a setting {setting!r}; it has no methods at all")
    raise ValueError(f"no method of the recipe has a setting {setting!r}; {did_you_mean(setting, known)}")


def _replaced(method: Method, values: Mapping[str, Any]) -> Method:
    for name in values:
        if name not in _settings(method):
            raise ValueError(
                f"{type(method).__name__} has no setting {name!r}; {did_you_mean(name, _settings(method))}"
            )
    return replace(method, **values)


def _settings(method: Method) -> list[str]:
    return [field.name for field in fields(method)]
