"""The page of a real run: driven in a real browser, repeated by its own command, safe from its own names."""

import json
import re
import shlex
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

import pytest
import torch
from browsing import watched_page
from PIL import Image
from safetensors.torch import load_file, save_file
from small_runs import colour_folder

from vitrim import explain, show, train
from vitrim.cli.main import main, read_options
from vitrim.data import open_data
from vitrim.report import write_report
from vitrim.report.repeating import changed_settings, command
from vitrim.report.samples import choose
from vitrim.report.shown_run import read_runs
from vitrim.runs.answered import FILE, read_answered
from vitrim.runs.folder import RunFolder
from vitrim.training.loop import Run

pytestmark = pytest.mark.usefixtures("short_measuring")

HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def runs(top: Path) -> list[Run]:
    """One that reduces and one that only probes, on three colours, the name of one hostile."""
    data = colour_folder(top / "colours")
    (top / "colours" / "red").rename(top / "colours" / HOSTILE.replace("/", "\u2215"))
    settings = {"epochs": 2, "batch_size": 8, "lr": 1e-2, "warmup_epochs": 0.5}
    methods = {"one": ("LoRA(rank=2)", "EViT(keep=0.5, at=(3, 6))"), "two": ()}
    return [
        train(None, data, methods=chosen, out=top / name, training=settings, cpu=True, quiet=True)
        for name, chosen in methods.items()
    ]


@pytest.fixture(scope="module")
def page(runs: list[Run]) -> Path:
    return write_report([run.folder for run in runs])


def test_answers_are_kept_picture_by_picture(runs: list[Run], tmp_path: Path) -> None:
    results = runs[0].record["results"]
    answered = read_answered(runs[0].folder, results["images"])
    assert answered is not None and answered.split == "test"
    labels = torch.tensor(open_data(runs[0].record["data"]["spec"]).split("test").labels)
    assert (answered.answers[:, 0] == labels).float().mean().item() == pytest.approx(results["top1"])
    assert answered.losses.mean().item() == pytest.approx(results["loss"], abs=1e-6)
    assert read_answered(tmp_path, 3) is None
    with pytest.raises(ValueError, match="not hold one answer to each of 3 images"):
        read_answered(runs[0].folder, 3)
    (tmp_path / FILE).write_bytes(b"cut off")
    with pytest.raises(ValueError, match="is damaged and cannot be read"):
        read_answered(tmp_path, 3)
    save_file({"answers": torch.full((3, 2), torch.nan), "losses": torch.zeros(3)}, tmp_path / FILE)
    with pytest.raises(ValueError, match="is damaged"):
        read_answered(tmp_path, 3)


def test_the_wrong_and_the_uncertain_come_first() -> None:
    from vitrim.runs.answered import Answered

    answers = torch.tensor([[0, 0.9], [1, 0.8], [0, 0.3], [1, 0.7]])
    answered = Answered("test", "", answers, torch.tensor([0.1, 2.0, 1.2, 0.4]))
    assert choose([0, 0, 0, 1], answered, "classify") == [
        (1, "most wrong"), (2, "least certain"), (3, "least certain"), (0, "least certain"),
    ]  # fmt: skip
    assert [index for index, _ in choose([0, 0, 1, 1], None, "classify")] == [0, 2, 1, 3]


def test_the_page_holds_everything_and_asks_for_nothing(page: Path, runs: list[Run]) -> None:
    text = page.read_text()
    assert len(text) < 3e6
    addresses = re.findall(r'(?:src|href|srcset)="([^"]{0,40})', text)
    assert addresses and all(address.startswith("data:") for address in addresses)
    assert "<img src=x" not in text and "&lt;img src=x" in text
    for words in (
        "How good",
        "How cheap",
        "How fast",
        "Where the cost goes",
        "Whether it knows",
        "expected calibration",
    ):
        assert words.lower() in text.lower(), words
    assert len(re.search(r"<script>(.*?)</script>", text, re.S)[1]) < 10_000  # type: ignore[index]


def test_the_time_is_measured_where_no_run_kept_it(page: Path) -> None:
    text = page.read_text()
    card = text[text.index("How fast") : text.index("How fast") + 400]
    assert re.search(r'class="figure">\d+ %<', card) and "measured as this page was written" in card
    assert "operations are not time" in text


def test_folding_methods_are_said_to_cost_nothing(runs: list[Run]) -> None:
    from vitrim.report.summary import folded_gmacs, folds, in_words

    record = runs[0].record
    assert folds(record) and folded_gmacs(record) < record["costs"]["gmacs"]
    assert "once what folds is folded" in " ".join(in_words([record]))
    assert not folds(runs[1].record)


def test_the_command_on_the_page_does_the_same_again(
    runs: list[Run], top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    record = runs[0].record
    words = shlex.split(command(record))
    assert words[:2] == ["vitrim", "train"]
    monkeypatch.chdir(top)
    assert main([*words[1:], "--cpu"]) == 0
    again = top / "runs" / "again"
    assert RunFolder(again).record()["settings"]["training"] == record["settings"]["training"]
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (runs[0].folder, again))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert set(changed_settings(record)) == {"epochs", "batch_size", "lr", "warmup_epochs"}


def test_the_page_of_a_run_of_an_earlier_version(tmp_path: Path) -> None:
    """No answers, no costs of blocks: less to show, and nothing made up."""
    versions = Path(__file__).parents[1] / "data_of_versions" / "2026-11-21"
    old = copytree(versions / "finished", tmp_path / "old")
    colour_folder(tmp_path / "colours", per_class=6)
    record = old / "run.json"
    record.write_text(record.read_text().replace("ROOT", str(tmp_path)))
    assert read_runs([old])[0].answered is None
    text = write_report([old]).read_text()
    assert "Whether it knows" not in text and "Where the cost goes" not in text
    assert "What the model looks at" in text and text.count("<figure") > 6


def test_runs_that_are_not_there_or_not_done(tmp_path: Path, runs: list[Run]) -> None:
    with pytest.raises(ValueError, match="no runs were given"):
        write_report([])
    unfinished = copytree(runs[0].folder, tmp_path / "unfinished", ignore=ignore_patterns("report.html"))
    record = json.loads((unfinished / "run.json").read_text())
    (unfinished / "run.json").write_text(json.dumps({**record, "status": "running"}))
    with pytest.raises(ValueError, match=r"must end in \.html or \.htm"):
        write_report([unfinished], unfinished / "model.safetensors")
    with pytest.raises(ValueError, match="has not finished; continue it with resume"):
        write_report([unfinished])
    assert not (unfinished / "report.html").exists()


def test_pictures_that_moved_and_pictures_that_changed(runs: list[Run], top: Path, tmp_path: Path) -> None:
    """Found again by `data`; which were most wrong is only said of the pictures the run was tested on."""
    moved = tmp_path / "elsewhere"
    copytree(top / "colours", moved)
    page = tmp_path / "page.html"
    text = write_report([runs[1].folder], page, data=f"folder:{moved}").read_text()
    assert "least certain" in text and "not the test pictures" not in text
    for picture in moved.rglob("*.png"):
        Image.new("RGB", (24, 24), "gray").save(picture)
    text = write_report([runs[1].folder], page, data=f"folder:{moved}").read_text()
    assert "least certain" not in text and "These are not the test pictures" in text


def test_every_chart_is_written_with_its_numbers(runs: list[Run], tmp_path: Path) -> None:
    folders = [str(run.folder) for run in runs]
    arguments = ["--out", str(tmp_path / "page.html"), "--charts", str(tmp_path / "charts"), "--measure"]
    assert main(["report", *folders, *arguments]) == 0
    for cost in ("time", *(["memory"] if sys.platform == "linux" else [])):
        told = json.loads((tmp_path / "charts" / f"accuracy-by-{cost}.json").read_text())
        assert len(told["rows"]) == 2 and all(row[1] > 0 for row in told["rows"])
    names = {path.stem for path in (tmp_path / "charts").glob("*.png")}
    assert {"operations-by-block", "training-loss", "confusion", "reliability"} <= names
    for name in names:
        told = json.loads((tmp_path / "charts" / f"{name}.json").read_text())
        lines = (tmp_path / "charts" / f"{name}.csv").read_text().splitlines()
        assert len(told["rows"]) == len(lines) - 1 > 0


def test_explain_writes_a_picture_and_its_numbers(
    runs: list[Run], top: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = next((top / "colours" / "blue").glob("*.png"))
    assert main(["explain", str(runs[0].folder), str(image), str(image), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "fused into one token" in said and "cosine" in said
    told = json.loads((tmp_path / f"{image.stem}.json").read_text())
    assert (tmp_path / f"{image.stem}-again.png").stat().st_size > 10_000
    assert [block["block"] for block in told["blocks"]] == [3, 6]
    assert {each["of"] for each in told["attention"]} == {
        "plain backbone", "backbone with the reducers", "tuned, all tokens", "this model",
    }  # fmt: skip
    assert told["guesses"][0]["name"] in runs[0].record["data"]["classes"]
    probe = str(runs[1].folder)  # one model, where what reduces and tunes has four to open
    assert main(["explain", probe, "nothing.png", "--out", str(tmp_path)]) == 2
    assert "there is no image nothing.png" in capsys.readouterr().err
    (tmp_path / "a.png").write_bytes(image.read_bytes()[:60])
    found = [str(tmp_path / "a.png"), str(image)]
    assert main(["explain", probe, *found, "--out", str(tmp_path / "good")]) == 2
    told = capsys.readouterr()
    assert f"vitrim: {tmp_path / 'a.png'} is damaged or cut short" in told.err
    assert "1 pictures cannot be read; they are listed above" in told.err
    assert f"{image}: " in told.out and (tmp_path / "good" / f"{image.stem}.png").is_file()
    before = image.read_bytes()
    assert main(["explain", probe, str(image), "--out", str(image.parent)]) == 2
    assert f"{image} is there already and explains no picture" in capsys.readouterr().err
    assert image.read_bytes() == before and not image.with_suffix(".json").exists()
    assert main(["explain", probe, str(image), "--out", str(image)]) == 2
    assert "is a file, and explanations go into a folder" in capsys.readouterr().err
    assert main(["explain", probe, str(image), "--out", str(tmp_path)]) == 0


def test_variants_are_what_they_say(runs: list[Run], top: Path) -> None:
    """The plain backbone is the one before training, not a random one, and the tuned one agrees where nothing
    is reduced yet."""
    from vitrim import compose
    from vitrim.report.explaining import PLAIN, TUNED, WHOLE, open_variants

    variants = open_variants(runs[0].folder)
    bundled = compose("vitrim_tiny_patch8_96").state_dict()
    plain = variants[PLAIN].state_dict()
    assert all(torch.equal(plain[name], bundled[name]) for name in bundled if "head" not in name)
    tuned, whole = variants[TUNED].state_dict(), variants[WHOLE].state_dict()
    assert set(tuned) == set(whole) and all(torch.equal(tuned[name], whole[name]) for name in whole)
    assert not any(method.reduces for method in variants[TUNED].methods)


def test_notebooks_show_models_and_runs(runs: list[Run], top: Path) -> None:
    image = next((top / "colours" / "blue").glob("*.png"))
    figure = show(runs[0].model, image)
    assert len(figure.axes) == 6 and "blue" in figure.get_suptitle() + "blue"
    assert "LoRA(rank=2" in runs[0].model._repr_html_() and "&lt;" in runs[0].model._repr_html_()
    assert "% right" in runs[0]._repr_html_()
    with pytest.raises(ValueError, match="show takes one image, got 2"):
        show(runs[0].model, [image, image])
    with pytest.raises(ValueError, match="show needs a composed model, got int"):
        show(3, image)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="top must be a whole number"):
        explain(runs[0].model, image, top=0)


def test_the_page_in_a_browser(page: Path, browser: Any) -> None:
    for width, scheme in ((1280, "light"), (390, "dark")):
        with watched_page(browser, width, scheme) as watched:
            drive(watched.page, page, width)
            assert [url for url in watched.asked if not url.startswith(("data:", "file:"))] == []
            assert watched.said == []


def drive(opened: Any, page: Path, width: int) -> None:
    opened.goto(page.as_uri())
    assert opened.evaluate("document.documentElement.scrollWidth") <= width  # nothing is cut
    words = opened.inner_text("#block-words")
    shown = "img[data-step]:not([hidden])"
    before = opened.get_attribute(shown, "src")
    opened.focus("#block")
    opened.keyboard.press("ArrowLeft")
    assert opened.inner_text("#block-words") != words and opened.get_attribute(shown, "src") != before
    if width > 600:
        column = "#classes th:first-child"
        orders = []
        for order in ("ascending", "descending"):
            opened.click(f"{column} button")
            assert opened.get_attribute(column, "aria-sort") == order
            orders.append(
                [cell.inner_text() for cell in opened.query_selector_all("#classes td:first-child")]
            )
        ascending = sorted(orders[0], key=str.lower)
        assert orders == [ascending, ascending[::-1]] and len(set(ascending)) == 3


def test_options_of_explain() -> None:
    assert read_options("explain", ["run", "a.png", "--out=x"])["top"] == 5
    with pytest.raises(ValueError, match="out"):
        read_options("explain", ["run", "a.png"])
