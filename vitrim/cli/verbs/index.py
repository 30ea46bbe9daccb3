"""vitrim index"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vitrim.cli.verbs.bulk import IMAGES
from vitrim.cli.verbs.shared import batch_options

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

DESCRIPTION = """
Look at a folder of pictures once and keep what a model of images and words makes of them, so that
vitrim find answers at once. The model is a retrieval run of vitrim train, or CLIP as it comes.
"""

EXAMPLES = """
vitrim index photos/ --model clip:openai/clip-vit-base-patch32
vitrim index photos/ --model runs/retrieval --out photos.safetensors
vitrim find "a red boat"
"""

GALLERY = "gallery.safetensors"


def options(parser: ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", metavar="IMAGE", help=IMAGES)
    parser.add_argument(
        "--model",
        type=str,
        required=True,
        metavar="RUN",
        help="a retrieval run, or clip:FOLDER or blip:FOLDER: a model of transformers by folder or name",
    )
    parser.add_argument(
        "--out", type=str, default=GALLERY, metavar="FILE", help=f"the file to write (usually {GALLERY})"
    )
    parser.add_argument(
        "--skip_broken", action="store_true", help="leave out pictures that cannot be read, and list them"
    )
    batch_options(parser)


def run(chosen: Namespace) -> None:
    from vitrim.cli.verbs.image_text import device_of, picture_paths, say_broken
    from vitrim.retrieval.gallery import open_searcher

    searcher = open_searcher(chosen.model, device_of(chosen.device))
    broken: list[str] | None = [] if chosen.skip_broken else None
    gallery = searcher.index(picture_paths(chosen.images), chosen.batch_size, broken)
    gallery.save(chosen.out)
    sys.stdout.write(f"{len(gallery):,} pictures: {chosen.out}\n")
    say_broken(broken)
