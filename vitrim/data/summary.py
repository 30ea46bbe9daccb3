"""What `vitrim data` prints: classes, images per split beside the published numbers, balance, image sizes."""

from collections.abc import Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING

from vitrim.data.checking import DARK, Decoded
from vitrim.data.source import DataSource, label_counts
from vitrim.data.splitting import some

if TYPE_CHECKING:
    from rich.table import Table

FEW = 20  # classes up to which every one gets a line
BAR = 24  # letters of the longest bar


def split_table(data: DataSource) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("split", data.called, "published", "per class", "median", "classes without"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for name, split in data.splits.items():
        counts = class_counts(data, name)
        low, high = min(counts), max(counts)
        usual = data.published.get(name)
        table.add_row(
            name,
            f"{len(split):,}",
            "" if usual is None else f"{usual:,}" + (" differs" if usual != len(split) else ""),
            f"{low}" if low == high else f"{low} to {high}",
            f"{median(counts):g}",
            f"{counts.count(0)}",
        )
    return table


def class_table(data: DataSource) -> "Table":
    """The images of every class, or of the commonest and rarest where there are many."""
    from rich.table import Table

    first = next(iter(data.splits))
    counts = {name: class_counts(data, name) for name in data.splits}
    order = sorted(range(len(data.classes)), key=lambda label: (-counts[first][label], label))
    shown: list[int | None] = list(range(len(order)))
    if len(order) > FEW:
        shown = [*order[:5], None, *order[-5:]]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class")
    for name in data.splits:
        table.add_column(name, justify="right")
    table.add_column(f"share of {first}")
    most = max(counts[first])
    for label in shown:
        if label is None:
            table.add_row(f"... {len(order) - 10} classes between", *[""] * len(counts), "")
            continue
        bar = "█" * round(BAR * counts[first][label] / most)
        table.add_row(data.classes[label], *(f"{counts[name][label]:,}" for name in data.splits), bar)
    return table


def class_counts(data: DataSource, split: str) -> list[int]:
    return label_counts(data, data.splits[split])


def size_lines(decoded: Decoded, every: bool, called: str = "images") -> Iterator[str]:
    """The commonest size, and the range."""
    if not decoded.sizes:
        return
    looked = f"all {decoded.images:,} {called}" if every else f"{decoded.images:,} {called} looked at"
    one = "image" if called == "images" else "frame"
    (width, height), count = decoded.sizes.most_common(1)[0]
    total = sum(decoded.sizes.values())
    if len(decoded.sizes) == 1:
        yield f"{one} size {width} x {height} ({looked})"
        return
    widths, heights = _range([size[0] for size in decoded.sizes]), _range([size[1] for size in decoded.sizes])
    yield (
        f"{one} sizes: {widths} wide, {heights} high; commonest {width} x {height} "
        f"({100 * count / total:.0f} %); {looked}"
    )


def look_notes(decoded: Decoded, called: str = "images") -> Iterator[str]:
    """What is odd about the pixels of the images that were decoded."""
    readable = sum(decoded.sizes.values())
    for names, what in ((decoded.dark, f"black, no level above {DARK} of 255"), (decoded.flat, "constant")):
        if names:
            yield f"{len(names):,} of {readable:,} {called} are nearly {what}: {some(names)}"


def _range(values: Sequence[int]) -> str:
    return f"{min(values)}" if min(values) == max(values) else f"{min(values)} to {max(values)}"
