"""One method in full: what it does, its settings and their meanings, its costs on ViT-B/16, how to use it."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING

from vitrim.cli.text import examples, paragraphs, wrapped

if TYPE_CHECKING:
    from vitrim.measuring.costs import Costs
    from vitrim.network.method import Method

PAPERS_MODEL = "vit_base_patch16_224"
SETTING = re.compile(r"^ {4}(\w+(?:, \w+)*): (.*)$")


def explained(kind: type[Method], width: int) -> str:
    """The whole page."""
    from vitrim.methods.plugins import plugins_of

    what = "makes the sequence of tokens shorter" if kind.reduces else "trains few parameters"
    source = plugins_of([kind()]).get(kind.__name__)
    what += f"; of the plug-in {source}" if source else ""
    prose, meanings = read_docstring(kind)
    lines = [f"{kind.__name__}: {what}", "", paragraphs(prose, width), ""]
    lines += ["settings:" if fields(kind) else "settings: none", *_settings(kind, meanings, width), ""]
    lines += [wrapped(line, width) for line in _counts(kind)]
    text = f'--method "{kind()!r}"' if fields(kind) else f"--method {kind.__name__}"
    use = [f"vitrim train {text} --data folder:PATH", f"vitrim costs --model {PAPERS_MODEL} {text}"]
    lines += ["", "examples:", textwrap.indent(examples("\n".join(use), width - 2), "  ")]
    return "\n".join(lines) + "\n"


def read_docstring(kind: type) -> tuple[str, dict[str, str]]:
    """The prose, and what each setting under "Attributes:" means."""
    prose, _, attributes = inspect.cleandoc(kind.__doc__ or "").partition("\nAttributes:\n")
    meanings: dict[str, str] = {}
    names: list[str] = []
    for line in attributes.splitlines():
        found = SETTING.match(line)
        if found:
            names = found[1].split(", ")
            meanings |= dict.fromkeys(names[1:], f"see {names[0]}")
        for name in names[:1]:
            meanings[name] = f"{meanings.get(name, '')} {found[2] if found else line.strip()}".strip()
    return prose.strip(), meanings


def first_paragraph(kind: type) -> str:
    """What a list says of it: whole sentences."""
    prose = " ".join(read_docstring(kind)[0].partition("\n\n")[0].split())
    return prose if prose.endswith(".") else prose.rstrip(":,") + "."


def _settings(kind: type[Method], meanings: dict[str, str], width: int) -> Iterator[str]:
    method = kind()
    for field in fields(kind):
        meaning = f": {meanings[field.name]}" if field.name in meanings else ""
        yield wrapped(f"  {field.name}={getattr(method, field.name)!r}{meaning}", width)


@cache
def _plain_costs() -> Costs:
    from vitrim.backbones.shapes import shapes_only
    from vitrim.compose import compose
    from vitrim.measuring.costs import costs

    with shapes_only():
        return costs(compose(PAPERS_MODEL))


def _counts(kind: type[Method]) -> Iterator[str]:
    """What `vitrim costs` says of the defaults on the papers' backbone."""
    from vitrim.backbones.shapes import shapes_only
    from vitrim.compose import compose
    from vitrim.measuring.costs import costs
    from vitrim.training.fitting import needs_fit

    with shapes_only():
        model = compose(PAPERS_MODEL, kind())
    ours, theirs = costs(model), _plain_costs()
    yield f"on ViT-B/16 at 224 pixels, with these settings ({PAPERS_MODEL}):"
    if needs_fit(model):
        yield "  not counted: what it does is chosen by the training images (vitrim train, or vitrim.fit)"
        return
    trained = ours.trained - ours.trained_head
    yield f"  {trained:,} parameters train beside the classifier ({trained / ours.total:.2%} of all)"
    share = ours.gmacs_paper / theirs.gmacs_paper
    yield f"  {ours.gmacs_paper:.3f} GMACs as papers count, {share:.3f} of the plain {theirs.gmacs_paper:.3f}"
    share = ours.gmacs / theirs.gmacs
    yield f"  {ours.gmacs:.3f} GMACs as executed, {share:.3f} of the plain {theirs.gmacs:.3f}"
    yield f"  tokens: {theirs.tokens[0]} enter, {ours.tokens[-1]} leave the last block"
    if kind.folds:
        yield "  folds away after training: inference then costs what the plain backbone costs"
