"""vitrim costs"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from vitrim.cli.verbs.shared import composition_options, given_methods

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from vitrim.network.model import StagedViT

DESCRIPTION = """
Count what a composition trains and what it costs to run, beside the plain backbone. Needs no weights, data or
GPU. One multiply-accumulate counts as one operation (papers print the same number as GFLOPs).
"""

EXAMPLES = """
vitrim costs --model vit_base_patch16_224 --recipe sparse-tuning
vitrim costs --model vit_small_patch16_224 --method "LoRA(rank=4)" --method "EViT(keep=0.5, at=(4, 8))"
"""


def options(parser: ArgumentParser) -> None:
    composition_options(parser)
    parser.add_argument(
        "--classes",
        type=int | None,
        metavar="N",
        help="classes of a fresh classifier, 0 for features without one; not given: the backbone's own",
    )


def run(chosen: Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from vitrim.backbones.names import name_without_weights
    from vitrim.backbones.shapes import shapes_only
    from vitrim.measuring.costs import costs
    from vitrim.settings.run_plan import Asked, compose_asked
    from vitrim.training.fitting import Fitted

    name = None if chosen.model is None else name_without_weights(chosen.model)

    def composed(methods: list[str] | None, recipe: str | None) -> StagedViT:
        asked = Asked(model=name, methods=methods, recipe=recipe, image_size=chosen.image_size)
        with shapes_only() if chosen.weights is None else contextlib.nullcontext():
            return compose_asked(asked, chosen.classes)

    model = composed(given_methods(chosen), chosen.recipe)
    ours, plain = costs(model), costs(composed([], None))
    table = Table("", "composed", "plain backbone", box=None, pad_edge=False)
    table.add_row("parameters that train", f"{ours.trained:,}", "")
    table.add_row("  without the classifier", f"{ours.trained - ours.trained_head:,}", "")
    table.add_row("parameters in all", f"{ours.total:,}", f"{plain.total:,}")
    table.add_row("GMACs as executed", f"{ours.gmacs:.3f}", f"{plain.gmacs:.3f}")
    table.add_row("GMACs as papers count", f"{ours.gmacs_paper:.3f}", f"{plain.gmacs_paper:.3f}")
    table.add_row("  share of the plain one", f"{ours.gmacs_paper / plain.gmacs_paper:.3f}", "1")
    Console().print(table)
    for method in model.methods:
        if isinstance(method, Fitted) and not method.settled:
            words = "is not in these figures: what it does is chosen by the training images"
            Console(soft_wrap=True).print(f"{method!r} {words}", highlight=False)
    tokens = " ".join(map(str, ours.tokens))
    Console(soft_wrap=True).print(
        f"tokens after each block: {tokens} (plain: {plain.tokens[-1]} everywhere)", highlight=False
    )
