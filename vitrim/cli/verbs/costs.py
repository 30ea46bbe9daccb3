"""vitrim costs"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from vitrim.cli.verbs.shared import composition_options, given_methods

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from vitrim.network.model import StagedViT
    from vitrim.video.settings import Video

DESCRIPTION = """
Count what a composition trains and what it costs to run, beside the plain backbone. Needs no weights, data or
GPU. One multiply-accumulate counts as one operation (papers print the same number as GFLOPs).
"""

EXAMPLES = """
vitrim costs --model vit_base_patch16_224 --recipe sparse-tuning
vitrim costs --model vit_small_patch16_224 --method "LoRA(rank=4)" --method "EViT(keep=0.5, at=(4, 8))"
vitrim costs --model vit_base_patch16_224 --recipe video-sparse-tuning --classes 400 --views 3
"""


def options(parser: ArgumentParser) -> None:
    composition_options(parser)
    parser.add_argument(
        "--classes",
        type=int | None,
        metavar="N",
        help="classes of a fresh classifier, 0 for features without one; not given: the backbone's own",
    )
    parser.add_argument(
        "--views",
        type=int,
        default=1,
        metavar="N",
        help="of clips, how many views a test averages: temporal ones times crops (usually 1)",
    )


def run(chosen: Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from vitrim.backbones.names import name_without_weights
    from vitrim.backbones.shapes import shapes_only
    from vitrim.measuring.costs import costs
    from vitrim.network.placing import placed
    from vitrim.settings.run_plan import Asked, compose_asked
    from vitrim.training.fitting import Fitted
    from vitrim.video.model import VideoModel

    name = None if chosen.model is None else name_without_weights(chosen.model)

    def composed(methods: list[str] | None, recipe: str | None, video: Video | str | None) -> StagedViT:
        asked = Asked(
            model=name,
            methods=methods,
            recipe=recipe,
            image_size=chosen.image_size,
            in_chans=chosen.in_chans,
            patch_size=chosen.patch_size,
            video=video,
        )
        with shapes_only() if chosen.weights is None else contextlib.nullcontext():
            return compose_asked(asked, chosen.classes)

    model = composed(given_methods(chosen), chosen.recipe, chosen.video)
    video = model.video if isinstance(model, VideoModel) else None
    views = views_asked(chosen.views, video)
    ours, plain = costs(model), costs(composed([], None, video))
    table = Table("", "composed", "plain backbone", box=None, pad_edge=False)
    table.add_row("parameters that train", f"{ours.trained:,}", "")
    table.add_row("  without the classifier", f"{ours.trained - ours.trained_head:,}", "")
    if ours.frames is not None:
        table.add_row("  of these, the pooling of frames", f"{ours.trained_pooling:,}", "")
    table.add_row("parameters in all", f"{ours.total:,}", f"{plain.total:,}")
    each = "" if ours.frames is None else f", a view of {ours.frames} frames"
    table.add_row(f"GMACs as executed{each}", f"{ours.gmacs:.3f}", f"{plain.gmacs:.3f}")
    table.add_row(f"GMACs as papers count{each}", f"{ours.gmacs_paper:.3f}", f"{plain.gmacs_paper:.3f}")
    if ours.frames is not None:
        all_views = (f"{views * one.gmacs_paper:.3f}" for one in (ours, plain))
        table.add_row(f"  times {views} view{'s' * (views > 1)}", *all_views)
    table.add_row("  share of the plain one", f"{ours.gmacs_paper / plain.gmacs_paper:.3f}", "1")
    Console().print(table)
    if ours.by_image:
        words = (
            "how many tokens an image keeps depends on it: figures are at the mean counts asked for; vitrim "
        )
        words += "evaluate RUN --budget gives their distribution"
        Console(soft_wrap=True).print(words, highlight=False)
    for method in model.methods:
        counted = any(part.by == method for _, part in placed(model))  # at the mean counts
        if isinstance(method, Fitted) and not method.settled and not counted:
            words = "is not in these figures: what it does is chosen by the training images"
            Console(soft_wrap=True).print(f"{method!r} {words}", highlight=False)
    tokens, of = " ".join(map(str, ours.tokens)), "" if ours.frames is None else " of each frame"
    Console(soft_wrap=True).print(
        f"tokens{of} after each block: {tokens} (plain: {plain.tokens[-1]} everywhere)", highlight=False
    )


def views_asked(views: int, video: Video | None) -> int:
    """The number of views, refused where there is no clip to view."""
    from vitrim.checks import check_positive

    check_positive("costs", "views", views)
    if views > 1 and video is None:
        raise ValueError(f"views={views} are of clips; give video=Video(frames=8) or a video recipe")
    return views
