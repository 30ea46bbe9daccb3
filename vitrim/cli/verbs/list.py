"""vitrim list"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from vitrim.checks import did_you_mean
from vitrim.cli.text import terminal_width, wrapped

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

DESCRIPTION = "Show what there is to choose from; with the name of a method, all about it."

EXAMPLES = """
vitrim list
vitrim list methods
vitrim list methods EViT
"""


def options(parser: ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", type=str | None, metavar="WHAT", help="one of " + ", ".join(LISTS))
    parser.add_argument("name", nargs="?", type=str | None, metavar="NAME", help="after methods: one of them")


def run(chosen: Namespace) -> None:
    width = terminal_width()
    if chosen.what is not None and chosen.what not in LISTS:
        raise ValueError(f"no list of {chosen.what!r}; {did_you_mean(chosen.what, LISTS)}")
    if chosen.name is not None:
        sys.stdout.write(one(chosen.what, chosen.name, width))
        return
    for name in [chosen.what] if chosen.what else LISTS:
        lines = "\n".join(wrapped(f"  {line}", width) for line in LISTS[name]())
        sys.stdout.write(f"{name}\n{lines}\n\n")


def one(what: str | None, name: str, width: int) -> str:
    """All about one method."""
    if what != "methods":
        raise ValueError(f"{what} are not explained one by one, got {name!r}; vitrim list {what} shows all")
    from vitrim.cli.method_page import explained
    from vitrim.methods.notation import method_class

    return explained(method_class(name.partition("(")[0]), width)


def recipes() -> Iterator[str]:
    from vitrim.settings.recipes import RECIPES

    width = max(map(len, RECIPES))
    yield f"{'':<{width}}  trained   GMACs  when to use it (figures: ViT-B/16, 224 pixels, no head)"
    yield f"{'':<{width}}  of clips: a view of 8 frames with 400 classes; their pooling trains besides"
    for name, recipe in RECIPES.items():
        trained, gmacs = recipe.expects.get("trained"), recipe.expects.get("gmacs_paper")
        count = "by data" if trained is None else f"{trained / 1e6:.3f} M"
        cost = "by data" if gmacs is None else f"{gmacs:.2f}"
        yield f"{name:<{width}}  {count:>8} {cost:>6}  {recipe.advice}"
        yield f"    {', '.join(map(repr, recipe.methods)) or 'no methods: the classifier alone'}"
        yield f"    follows {recipe.follows}; trained as {recipe.protocol}"
    yield 'changed forms: --recipe "sparse-tuning(width=32)", "sparse-tuning(EViT(keep=0.5, at=(4, 8)))"'


def protocols() -> Iterator[str]:
    from vitrim.settings.protocols.describe import lines

    return lines()


def methods() -> Iterator[str]:
    from vitrim.cli.method_page import first_paragraph
    from vitrim.methods.plugins import load_all_installed
    from vitrim.methods.tables import METHODS

    broken = load_all_installed()
    for name, method in METHODS.items():
        kind = "fewer tokens" if method.reduces else "few parameters"
        yield f"{name} ({kind}): {first_paragraph(method)}"
        yield f"    {method()!r}"
    for name, reason in broken.items():
        yield f"{name}: {reason}"
    yield "vitrim list methods NAME explains one, with all of its settings"


def models() -> Iterator[str]:
    from vitrim.settings.run_plan import DEFAULT_MODEL

    yield f"{DEFAULT_MODEL}: bundled, 96 pixels, pretrained on images drawn by formula"
    yield "any Vision Transformer of timm by its name (vit, deit, dinov2, dinov3, eva02, clip, siglip ...),"
    yield "    with --pretrained or --weights FILE"
    yield "a checkpoint file named after its model, such as vit_small_patch16_224.safetensors"


def data() -> Iterator[str]:
    from vitrim.data import KINDS
    from vitrim.data.kinds import MASK_KINDS

    modules = dict.fromkeys(getattr(opener, "func", opener).__module__ for opener in KINDS.values())
    for module in modules:  # each module's first line explains its specs
        yield (sys.modules[module].__doc__ or "").strip().splitlines()[0]
    specs = ", ".join(f"{kind}:PATH" for kind in MASK_KINDS)
    yield f"with masks, for --task segment (docs/dense.md): {specs}"


def settings() -> Iterator[str]:
    from dataclasses import fields

    from vitrim.settings.training import Training, explanations

    texts = explanations()
    for field in fields(Training):
        yield f"{field.name} = {field.default}: {texts[field.name]}"


def words() -> Iterator[str]:
    from vitrim.cli.words import WORDS

    return (f"{word}: {meaning}" for word, meaning in WORDS.items())


LISTS: dict[str, Callable[[], Iterator[str]]] = {
    "recipes": recipes,
    "protocols": protocols,
    "methods": methods,
    "models": models,
    "data": data,
    "settings": settings,
    "words": words,
}
