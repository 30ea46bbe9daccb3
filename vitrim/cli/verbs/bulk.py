"""What `vitrim predict --out` and `vitrim embed` share: options, and what is said at the end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from vitrim.deploy.bulk.opening import Opening

IMAGES = (
    "image files, folders of them, text files that list paths (one a line), quoted patterns such as "
    '"photos/**/*.jpg", or hf:OWNER/NAME or hf:FOLDER'
)


def bulk_options(parser: ArgumentParser) -> None:
    """How a table of many images is written."""
    group = parser.add_argument_group("tables of many images (--out)")
    group.add_argument(
        "--workers",
        type=int | None,
        metavar="N",
        help="processes that read images; not given: by the machine",
    )
    group.add_argument(
        "--part_size",
        type=int | None,
        metavar="N",
        help="images of a part: so many are predicted again, at most, after a stop (usually 1024)",
    )
    group.add_argument("--download", action="store_true", help="let hf:OWNER/NAME fetch what is not there")
    group.add_argument(
        "--on",
        type=str | None,
        metavar="ray",
        help="ray: on the machines of the Ray cluster that RAY_ADDRESS names",
    )
    group.add_argument(
        "--actors",
        type=int | None,
        metavar="N",
        help="models on the cluster; not given: one for each GPU, or where there is none for each CPU",
    )


def write(chosen: Namespace, opening: Opening, images: list[str], top: int | None, embeddings: bool) -> None:
    """Predict into a table, and say what came of it."""
    from vitrim.deploy.bulk.asked import USUAL_PART, Pace, Wanted
    from vitrim.deploy.bulk.predicting import write_table

    wanted = Wanted(top, embeddings, USUAL_PART if chosen.part_size is None else chosen.part_size)
    pace = Pace(
        chosen.batch_size, chosen.workers, chosen.device, chosen.skip_broken, chosen.on, chosen.actors
    )
    done = write_table(opening, images, chosen.out, wanted, pace, chosen.download, quiet=False)
    speed = f"; {done.now:,} of them now, {done.now / done.seconds:,.1f} images/s" if done.now else ""
    already = "" if done.now else "; all was there already"
    machines = f" on {len(done.nodes)} machines" if len(done.nodes) > 1 else ""
    sys.stdout.write(f"{done.rows:,} of {done.images:,} images: {done.path}{speed}{machines}{already}\n")
    if done.broken:
        sys.stdout.flush()
        unread = "1 image" if done.broken == 1 else f"{done.broken:,} images"
        sys.stderr.write(f"vitrim: {unread} cannot be read; {done.broken_file} says why\n")
