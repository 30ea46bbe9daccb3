"""How a record is read: whole, bounded and typed, by a schema of pydantic; or refused in one sentence.

What lies in a file is somebody's claim. A reader that takes keys out of parsed JSON believes it and fails
with whatever Python says of the first odd value; here every value that is used has a type and bounds before
any code sees it. Keys that a schema does not know are left alone: later versions may write more.
pydantic is imported when a record is read, so that help and lists do not wait for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

MOST_BYTES = 256 * 2**20  # of a record; results of a million classes are below 200 MB
LARGEST = 2**63 - 1  # of any whole number, known or not
Pairs = list[tuple[str, Any]]  # an object as it is written, equal keys included
SHOWN = 60  # characters of an odd value that are repeated


def text_of(file: Path, most: int = MOST_BYTES) -> bytes:
    """All of a file, unless it is larger than any record."""
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    with file.open("rb") as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise ValueError(f"{file} is damaged and cannot be read: it has more than {most:,} bytes")
    return content


def read_json(file: Path, schema: type[BaseModel], most: int = MOST_BYTES) -> dict[str, Any]:
    """The record in a file, as plain values, once it fits its schema."""
    return parse_json(text_of(file, most), schema, str(file))


def parse_json(text: str | bytes, schema: type[BaseModel], where: str) -> dict[str, Any]:
    """The record in a text, as plain values, once it fits its schema; `where` names it in refusals.

    Depth is bounded by the parser (200), whole numbers to 64 bits.
    """
    from pydantic import ValidationError
    from pydantic_core import from_json

    if not text.strip():
        raise ValueError(f"{where} is damaged and cannot be read: it is empty")
    try:
        stored = from_json(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is damaged and cannot be read: {short(error)}") from None
    if not isinstance(stored, dict):
        raise ValueError(f"{where} is damaged and cannot be read: it holds {short(stored)}, not a record")
    check_format(stored, schema, where)
    if odd := too_large(stored):
        raise ValueError(f"{where} is damaged and cannot be read: its {odd} is beyond 64 bits")
    try:
        schema.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise ValueError(_sentence(error, where)) from None
    return stored


def loose_json(text: str, where: str, pairs: Callable[[Pairs], Any] | None = None) -> Any:
    """JSON of other makers, whose layout their readers check: what Python's parser says of text that is no
    JSON, is nested too deep or holds a number without end becomes one sentence."""
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}, line {error.lineno}: not valid JSON ({error.msg})") from None
    except RecursionError:
        raise ValueError(f"{where} is no file of this kind: its JSON is nested too deep to read") from None
    except ValueError:
        raise ValueError(f"{where} is no file of this kind: a number in it has thousands of digits") from None


def check_values(values: object, schema: type[BaseModel], where: str) -> None:
    """Refuse values that do not fit their schema, where they did not come as JSON."""
    from pydantic import ValidationError

    check_format(values, schema, where)
    try:
        schema.model_validate(values, strict=True)
    except ValidationError as error:
        raise ValueError(_sentence(error, where)) from None


def check_format(stored: object, schema: type[BaseModel], where: str) -> None:
    """Refuse what a newer version wrote, in words of its own. Records of before 2026-11-26 have no format."""
    number = stored.get("format") if isinstance(stored, Mapping) else None
    known = getattr(schema, "FORMAT", None)
    if known is not None and type(number) is int and number > known:
        raise ValueError(
            f"{where} was written by a newer vitrim (format {short(number)}, this one reads up to {known})"
        )


def too_large(value: object, name: str = "") -> str | None:
    """Where the first whole number is that no record can hold; the parser has bounded the depth."""
    if isinstance(value, int):
        return None if abs(value) <= LARGEST else name
    parts: Any = ()
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    for key, part in parts:
        if type(part) in (dict, list) or (type(part) is int and abs(part) > LARGEST):
            odd = too_large(part, f"{name}.{key}".lstrip("."))
            if odd is not None:
                return odd[:200]
    return None


def _sentence(error: Any, where: str) -> str:
    """The first thing that is wrong: file, field, what was found, what is allowed."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part)[:SHOWN] for part in first["loc"]) or "content"
    if first["type"] == "missing":
        return f"{where} is damaged and cannot be read: it lacks {field}"
    wanted = first["msg"].removeprefix("Input ").removeprefix("Value error, ")
    return f"{where} is damaged and cannot be read: its {field} is {short(first['input'])}, but {wanted}"


def short(value: object) -> str:
    """A value in one line, cut where it is long."""
    if isinstance(value, dict | list | tuple):
        kind = "names with values" if isinstance(value, dict) else "a list"
        return f"{kind} ({len(value)})"
    if isinstance(value, int) and abs(value) > LARGEST:
        return "a whole number of more than 64 bits"
    text = " ".join((str(value) if isinstance(value, Exception) else repr(value)).split())
    return text if len(text) <= SHOWN or isinstance(value, Exception) else f"{text[:SHOWN]}..."
