"""What counts as a picture: one answer for training, `vitrim data`, prediction and reports.

A picture is a file whose name ends in one of `EXTENSIONS` and which is not hidden; what it holds is decided
by its bytes, which only the decoders in `FORMATS` may look at. Pillow knows more formats, but some of them
hand the file to other programs (PostScript to Ghostscript), and a stranger's picture must not reach those.
"""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

ENDINGS = {  # Pillow's name of the format -> how its files are called
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "DIB": (),  # what Pillow calls a BMP without its file header
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "AVIF": (".avif",),
}
FORMATS = tuple(ENDINGS)
ARRAY = ".npy"  # images as plain arrays, which band_files.py reads without unpickling
EXTENSIONS = frozenset(chain.from_iterable([*ENDINGS.values(), [ARRAY]]))

UNREAD = frozenset(  # pictures too, but not for us: worth a word where they lie among others
    (
     ".heic", ".heif", ".jxl", ".tga", ".psd", ".svg", ".eps", ".exr", ".hdr", ".dcm",
     ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw", ".ico",
    )
)  # fmt: skip
NOT_DATA = ("__MACOSX", "@eaDir")  # left behind by zip files made on a Mac, and by network drives

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotAFileError(OSError):
    """Something that is no regular file; the message names it and says what it is."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder is the system's own: .DS_Store, ._photo.jpg, .thumbnails, __MACOSX."""
    return name.startswith(".") or name in NOT_DATA


def is_picture(name: str) -> bool:
    """Whether a file of this name is taken for a picture."""
    return not is_hidden(name) and ending(name) in EXTENSIONS


def ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  ten times faster than Path, for 100,000 names


def walk_pictures(folder: Path, unread: Counter[str] | None = None) -> Iterator[Path]:
    """The pictures below a folder, sorted within each folder, through links but never twice through one.

    Folder by folder: the first pictures come before the last folder is looked at. `unread` counts the endings
    of pictures that are passed over because no decoder of `FORMATS` reads them. Arrays are images where a
    folder holds nothing else: beside pictures, as features or masks often lie, they are passed over.
    """
    seen: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        here = Path(parent).stat()
        if (here.st_dev, here.st_ino) in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        pictures = any(is_picture(name) and ending(name) != ARRAY for name in files)
        for name in sorted(files):
            if is_picture(name) and not (pictures and ending(name) == ARRAY):
                yield Path(parent, name)
            elif unread is not None and not is_hidden(name) and ending(name) in (*UNREAD, ARRAY):
                unread[ending(name)] += 1


def unread_note(unread: Counter[str]) -> list[str]:
    """What to know where pictures were passed over."""
    if not unread:
        return []
    arrays = unread[ARRAY]
    kinds = ", ".join(f"{count:,} {name}" for name, count in sorted(unread.items()) if name != ARRAY)
    notes = [f"{arrays:,} {ARRAY} files that lie among pictures are left out"] if arrays else []
    if kinds:
        notes.append(
            f"pictures in formats that vitrim does not read are left out: {kinds}; "
            "convert them to PNG or JPEG"
        )
    return notes


def open_regular(path: Path) -> BinaryIO:
    """A file opened for reading. Anything else is refused at once: opening a named pipe would wait for
    ever.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind == stat.S_IFREG:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise NotAFileError(f"{path} is {KINDS.get(kind, 'no regular file')}, not an image")


def _raise(error: OSError) -> None:
    raise error  # a folder that may not be read would otherwise be skipped in silence
