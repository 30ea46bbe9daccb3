"""Pictures of what images keep: the counts are the model's own, the page has them, the ends are the ends."""

import numpy as np
import pytest
from small_runs import colour_folder, small_run

from vitrim import open_data
from vitrim.report.chart import DARK, LIGHT
from vitrim.report.charts.kept_tokens import jpeg_bits, kept_tokens, look
from vitrim.report.page import write_report
from vitrim.training.loop import Run

pytestmark = pytest.mark.usefixtures("short_measuring")

METHODS = ("EViT(keep=0.5, at=(1, 2), budget='mass', fuse='drop')", "LoRA(rank=2)")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp("kept")
    return small_run(place / "run", colour_folder(place / "data", 8), methods=METHODS, epochs=1)


def test_counts_are_the_models_own(run: Run) -> None:
    source = open_data(run.record["data"]["spec"])
    found = look(run.model, source)
    histogram, against, ends = kept_tokens(run.model, source)
    counts = [count for _, count in histogram.rows]
    assert counts == found.counts.tolist() and all(1 <= count <= 16 for count in counts)
    assert [tokens for _, tokens in against.rows] == counts
    shown = [count for _, count in ends.rows]
    assert min(shown) == min(counts) and max(shown) == max(counts) and shown[0] == min(counts)
    assert -1 <= found.correlation <= 1 or np.isnan(found.correlation)
    assert "it depends on the image" in histogram.words
    for chart in (histogram, against, ends):
        assert chart.light_and_dark(50) == (chart.png(LIGHT, 50), chart.png(DARK, 50))


def test_the_page_shows_them_and_marks_its_costs(run: Run) -> None:
    page = write_report([run.folder]).read_text("utf-8")
    assert "How many tokens pictures keep" in page
    assert "varies by image" in page and "operations vary by image" in page


def test_a_noisy_picture_takes_more_bits() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert jpeg_bits(noise) > 1.5 * jpeg_bits(np.full((32, 32, 3), 90, dtype=np.uint8))
