"""Finding a data set below the root a user gives, under any of the names it goes by."""

from collections.abc import Callable, Sequence
from pathlib import Path


def plain(name: str) -> str:
    """A name without capitals and separators, to compare with: CUB_200_2011 is cub2002011."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def find_folder(
    root: Path, names: Sequence[str], places: Sequence[str], fits: Callable[[Path], bool]
) -> Path | None:
    """The first folder that fits: below a place in the root under one of the names, or the root itself."""
    wanted = [plain(name) for name in names]
    for place in places:
        base = root / place
        if not base.is_dir():
            continue
        folders = {plain(entry.name): entry for entry in sorted(base.iterdir()) if entry.is_dir()}
        for name in wanted:
            if name in folders and fits(folders[name]):
                return folders[name]
    return root if fits(root) else None


def first_with(file: str, folders: Sequence[Path]) -> Path | None:
    """The first folder that has a file of this relative path."""
    return next((folder for folder in folders if (folder / file).is_file()), None)


def needs_root(spec: object, root: Path | None, of: str) -> Path:
    """The root, or a sentence that asks for it."""
    if root is None:
        raise ValueError(f"{spec} needs a root: the folder that your copy of {of} is in")
    if not root.is_dir():
        raise FileNotFoundError(f"the root {root} is not a folder; give the one your copy of {of} is in")
    return root
