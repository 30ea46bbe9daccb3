"""Whether a model that says 80 % is right in 80 of 100 cases."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from vitrim.report.chart import COLOURS, Cell, Chart, Theme, plain

BINS = 10


def binned(
    confidences: Sequence[float], right: Sequence[bool], bins: int = BINS
) -> list[tuple[float, float, int]]:
    """Mean confidence, share right and count of every bin of equal width that holds pictures; a confidence on
    an edge is in the bin below it, as in Guo et al. 2017 (arXiv 1706.04599)."""
    found: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for sure, good in zip(confidences, right, strict=True):
        place = next((index for index in range(bins) if sure <= (index + 1) / bins), bins - 1)
        found[place].append((sure, good))
    return [
        (
            sum(sure for sure, _ in members) / len(members),
            sum(good for _, good in members) / len(members),
            len(members),
        )
        for members in found
        if members
    ]


def calibration_error(confidences: Sequence[float], right: Sequence[bool], bins: int = BINS) -> float:
    """Expected calibration error: sum over bins of (share of pictures) |share right - mean confidence|."""
    parts = binned(confidences, right, bins)
    return sum(count * abs(good - sure) for sure, good, count in parts) / len(right)


def reliability(confidences: Sequence[float], right: Sequence[bool]) -> Chart:
    """Share right over confidence, in ten bins."""
    parts = binned(confidences, right)
    error = calibration_error(confidences, right)
    rows: tuple[tuple[Cell, ...], ...] = tuple((sure, good, count) for sure, good, count in parts)
    words = (
        "How often the model is right, by how sure it is; on the dashed line it is as good as it says. "
        f"Expected calibration error {100 * error:.1f} points. Larger dots stand for more pictures."
    )

    def draw(axes: Axes, theme: Theme) -> None:
        axes.plot([0, 100], [0, 100], linestyle="--", color=theme.faint, linewidth=1)
        across, up = [100 * sure for sure, _, _ in parts], [100 * good for _, good, _ in parts]
        most = max(count for _, _, count in parts)
        axes.plot(across, up, color=COLOURS[0], linewidth=1.5)
        sizes = [12 + 100 * count / most for _, _, count in parts]
        axes.scatter(across, up, s=sizes, color=COLOURS[0], zorder=3, clip_on=False)
        plain(axes, "share right, % over confidence, %", "confidence, %", "right, %")
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 104)

    return Chart("reliability", words, ("mean confidence", "share right", "pictures"), rows, draw)
