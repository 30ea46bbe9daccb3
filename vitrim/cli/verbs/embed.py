"""vitrim embed"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitrim.cli.asked_budget import budget_option, methods_at_budget
from vitrim.cli.verbs.bulk import IMAGES, bulk_options, write
from vitrim.cli.verbs.shared import batch_options, given_methods, one_text

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

DESCRIPTION = """
Write a Parquet table of embeddings, one row for each picture: what the classifier of a run reads, or what a
backbone without a classifier gives, with reducers or without. What was stopped goes on with the same command.
"""

EXAMPLES = """
vitrim embed runs/flowers photos/ --out flowers.parquet
vitrim embed runs/flowers photos/ --budget 0.5 --out flowers-half.parquet
vitrim embed --model vit_small_patch16_224 --weights small.safetensors photos/ --out small.parquet
vitrim embed --model vit_base_patch14_dinov2 --pretrained --method "ToMe(r=8)" list.txt --out embeddings
"""


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "run_and_images",
        nargs="+",
        metavar="RUN IMAGE",
        help=f"a run folder or a model.safetensors file, unless there is a --model; then {IMAGES}",
    )
    parser.add_argument(
        "--out",
        type=str,
        required=True,
        metavar="TABLE",
        help="a file that ends in .parquet, or a folder that gets a file for each part",
    )
    group = parser.add_argument_group("a backbone instead of a run")
    group.add_argument(
        "--model", type=str | None, metavar="NAME_OR_FILE", help="a name of timm, or a checkpoint"
    )
    group.add_argument("--pretrained", action="store_true", help="let timm download the weights of --model")
    group.add_argument("--weights", type=str | None, metavar="FILE", help="weights of --model")
    group.add_argument(
        "--method",
        action="append",
        type=one_text,
        metavar="TEXT",
        help='such as "EViT(keep=0.7, at=(3, 6, 9))"',
    )
    parser.add_argument(
        "--image_size",
        type=int | tuple[int, int] | None,
        metavar="PIXELS",
        help='images of another size: the side, or "[height, width]"',
    )
    batch_options(parser)
    parser.add_argument(
        "--skip_broken", action="store_true", help="go on even past parts of which no image can be read"
    )
    budget_option(parser)
    bulk_options(parser)


def run(chosen: Namespace) -> None:
    from vitrim.deploy.bulk.opening import Opening

    given, methods = list(chosen.run_and_images), given_methods(chosen)
    if chosen.model is None:
        if chosen.weights is not None or chosen.pretrained or methods:
            raise ValueError("weights, pretrained and method go with --model; a run has its own")
        if len(given) < 2:
            raise ValueError("give a run and images, or --model NAME and images")
        run = given.pop(0)
        opening = Opening(run, image_size=chosen.image_size, budgeted=methods_at_budget(run, chosen))
    else:
        if chosen.budget is not None:
            raise ValueError("--budget goes with a run; the methods of --model say themselves what they keep")
        opening = Opening(
            model=chosen.model,
            methods=tuple(methods or ()),
            weights=chosen.weights,
            pretrained=chosen.pretrained,
            image_size=chosen.image_size,
        )
    write(chosen, opening, given, top=None, embeddings=True)
