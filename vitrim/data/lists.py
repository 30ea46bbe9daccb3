"""Lists of images: one "path label" per line, or JSON. Errors say which file and which line."""

from dataclasses import dataclass
from pathlib import Path

from vitrim.reading import loose_json


@dataclass(frozen=True)
class Row:
    path: str  # as written in the list
    label: int
    file: Path  # the list
    number: int  # line or entry, from 1
    unit: str = "line"

    @property
    def where(self) -> str:
        return f"{self.file}, {self.unit} {self.number}"


Rows = list[Row]
DIGITS = 18  # of a label; Python refuses to read thousands


def read_text_list(file: Path) -> Rows:
    """Lines "path label"; a path may contain spaces, a label may not. Empty lines do not count."""
    rows = []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        fields = line.rsplit(maxsplit=1)
        label = fields[-1]
        if len(fields) != 2 or not (label.isascii() and label.isdigit() and len(label) <= DIGITS):
            raise ValueError(
                f"{file}, line {number}: {line.strip()[:80]!r} is not a path, a space and "
                "a label (a whole number from 0)"
            )
        rows.append(Row(fields[0].strip(), int(label), file, number))
    return _not_empty(rows, file)


def read_json_list(file: Path, images: str) -> Rows:
    """SynQT's form: a list of one-entry objects, {"name.png": 3}; the files lie in the folder `images`."""
    entries = loose_json(read_text(file), str(file))
    if type(entries) is not list:
        raise ValueError(f'{file} is not a list of {{"file name": label}} objects')
    rows = []
    for number, entry in enumerate(entries, start=1):
        pair = list(entry.items()) if isinstance(entry, dict) else []
        if len(pair) != 1 or type(pair[0][1]) is not int or pair[0][1] < 0:
            raise ValueError(
                f'{file}, entry {number}: {str(entry)[:80]} is not {{"file name": label}} '
                "with a whole number from 0"
            )
        name, label = pair[0]
        rows.append(Row(f"{images}/{name}", label, file, number, "entry"))
    return _not_empty(rows, file)


def read_json_object(file: Path) -> Rows:
    """VPT's form: one object, {"path/of/image.jpg": 17, ...}. The class ids may be any whole numbers."""
    entries = loose_json(read_text(file), str(file), _Pairs)
    if not isinstance(entries, _Pairs):
        raise ValueError(f'{file} is not an object {{"path of image": class id, ...}}')
    rows: Rows = []
    met: dict[str, int] = {}
    for number, (path, label) in enumerate(entries.pairs, start=1):
        if type(label) is not int:
            raise ValueError(
                f"{file}, entry {number}: the class id of {path!r} is {_written(label)}, not a whole number"
            )
        if path in met:
            raise ValueError(f"{file}, entry {number}: {path!r} is there twice (entry {met[path]} as well)")
        met[path] = number
        rows.append(Row(path, label, file, number, "entry"))
    return _not_empty(rows, file)


def _written(value: object) -> str:
    return "an object" if isinstance(value, _Pairs) else repr(value)[:80]


class _Pairs:
    """A JSON object as it is written: a dict would keep only the last of two equal keys."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        self.pairs = pairs


def read_numbered(file: Path) -> dict[str, str]:
    """Lines "id value", as the releases of CUB and NABirds have them."""
    found: dict[str, str] = {}
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        key, _, value = line.strip().partition(" ")
        if not value or key in found:
            why = "is not an id, a space and a value" if not value else "has an id that was there before"
            raise ValueError(f"{file}, line {number}: {line.strip()[:80]!r} {why}")
        found[key] = value.strip()
    return found


def read_names(path: Path, count: int, of: str = "the data") -> tuple[str, ...]:
    """Class names, one a line in label order."""
    names = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    if len(names) != count or len(set(names)) != len(names):
        raise ValueError(
            f"{path} names {len(set(names))} different classes on {len(names)} lines, but "
            f"{of} has {count}; write one name a line, in label order"
        )
    return names


def check_files(folder: Path, rows: Rows) -> None:
    """Every listed file is there. Asks once per folder, not per file: test lists have up to 73,728 lines."""
    listings: dict[Path, set[str]] = {}
    for row in rows:
        file = folder / row.path
        parent = file.parent
        if parent not in listings:
            listings[parent] = {entry.name for entry in parent.iterdir()} if parent.is_dir() else set()
        if file.name not in listings[parent] and not file.exists():  # exists(): some disks ignore case
            raise FileNotFoundError(f"{row.where}: there is no file {file}")


def read_text(file: Path) -> str:
    """The file as UTF-8, with or without a byte order mark."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not a UTF-8 text file ({error.reason} at byte {error.start})") from error


def _not_empty(rows: Rows, file: Path) -> Rows:
    if not rows:
        raise ValueError(f"{file} lists no images")
    return rows
