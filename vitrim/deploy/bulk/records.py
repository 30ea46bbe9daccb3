"""What the manifest of a bulk prediction and each of its parts may say."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from vitrim.bounds import MOST_CLASSES, Count, Format, Images, Name, Open, Text

MOST_PARTS = 10_000_000
LARGEST_PART = 1_000_000


class PartFile(Open):
    """A finished part: its file, the rows in it, and how many of its images could not be read."""

    file: Name
    rows: Count
    broken: Count


class Manifest(Open):
    """_manifest.json: what is predicted from what, and, once `complete`, every part."""

    FORMAT: ClassVar[int] = 1
    format: Format = 1
    run: Text
    model: Name
    top: Annotated[int, Field(ge=1, le=MOST_CLASSES)] | None
    embeddings: bool
    given: Annotated[list[Text], Field(max_length=1_000_000)]
    base: Text
    images: Images
    images_digest: Name
    part_size: Annotated[int, Field(ge=1, le=LARGEST_PART)]
    complete: bool = False
    parts: Annotated[list[PartFile], Field(max_length=MOST_PARTS)]


class Broken(Open):
    """An image that could not be read."""

    index: Images
    path: Text
    reason: Text


class PartNote(Open):
    """What a part says of itself in its Parquet metadata."""

    job: Name
    part: Count
    images: Count
    broken: Annotated[list[Broken], Field(max_length=LARGEST_PART)]
