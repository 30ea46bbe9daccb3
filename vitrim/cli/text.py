"""Text that fits the terminal: COLUMNS or its width, at most 110, and 80 where output is piped."""

from __future__ import annotations

import shlex
import shutil
import textwrap

WIDEST = 110  # longer lines are hard to read


def terminal_width() -> int:
    return max(40, min(shutil.get_terminal_size((80, 24)).columns, WIDEST))


def wrapped(line: str, width: int) -> str:
    """A line in as many as it takes, the further ones four deeper than the first."""
    indent = line[: len(line) - len(line.lstrip())]
    further = indent + "    "
    return textwrap.fill(
        line.strip(), width, initial_indent=indent, subsequent_indent=further,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def paragraphs(text: str, width: int) -> str:
    """Running text, its paragraphs filled; indented lines (formulas, code) stay as they are."""
    blocks = textwrap.dedent(text).strip().split("\n\n")
    filled = [
        block if any(line.startswith(" ") for line in block.splitlines()) else textwrap.fill(block, width)
        for block in blocks
    ]
    return "\n\n".join(filled)


def examples(text: str, width: int) -> str:
    """Lines to copy: a command that is too long goes on after a backslash, as shells read it."""
    lines = textwrap.dedent(text).strip().splitlines()
    return "\n".join(command(line, width) if line.startswith("vitrim ") else line for line in lines)


def command(line: str, width: int) -> str:
    """One command, broken before options where it is too long."""
    code = line.partition("  #")[0]
    if len(code.rstrip()) <= width:
        return line if len(line) <= width else code.rstrip()
    parts = _with_values(shlex.split(code))
    rows = [parts[0]]
    for part in parts[1:]:
        if len(rows[-1]) + len(part) + 3 > width:
            rows.append(f"    {part}")
        else:
            rows[-1] += f" {part}"
    return " \\\n".join(rows)


def _with_values(words: list[str]) -> list[str]:
    """Options with their values; words that a shell would split are quoted again."""
    parts: list[str] = []
    for word in words:
        plain = not set(word) & set(" ()[]{}*?&|;<>$'\"\\")
        text = word if plain else f'"{word}"'
        if parts and parts[-1].startswith("--") and " " not in parts[-1] and "=" not in parts[-1]:
            parts[-1] += f" {text}"
        else:
            parts.append(text)
    return parts
