"""The live page: a real server, a real browser, and what the page is told against the models themselves."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from browsing import DROP, watched_page
from served import BACKBONE, drawing, encoded, huge_header, running_server
from tuned import stir

import vitrim
from vitrim.cli.main import main
from vitrim.deploy.serving.settings import Serving
from vitrim.methods.notation import parse_method
from vitrim.report.viewing.application import view_application
from vitrim.report.viewing.dials import dial_of
from vitrim.report.viewing.variants import Viewed

pytestmark = pytest.mark.usefixtures("short_measuring")

HOSTILE = "<img src=x onerror=alert(1)>"
METHODS = {
    "kept": ("LoRA(rank=2)", "EViT(keep=0.5, at=(3, 6))"),
    "merged": ("DenseAdapter(width=4)", "ToMe(r=4)"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("view")
    found = {}
    for seed, (name, methods) in enumerate(METHODS.items()):
        model = vitrim.compose(BACKBONE, *methods, num_classes=3)
        stir(model, seed).classes = (HOSTILE, "grass", "sky")
        found[name] = folder / f"{name}.safetensors"
        vitrim.save(model, found[name])
    return found


@pytest.fixture(scope="module")
def address(runs: dict[str, Path]) -> Iterator[str]:
    serving = Serving(max_megapixels=2)
    with running_server(view_application(runs, serving), serving) as found:
        yield found


@pytest.mark.parametrize(("methods", "values"), [
    (("EViT(keep=0.72)",), (0.05, 0.72, 1.0)),
    (("LoRA()", "DynamicViT(keep=0.7)"), (0.05, 0.7, 1.0)),
    (("ToMe(r=5)",), (0, 5, 36)),
    (("ToMe(keep=0.8)",), (0.5, 0.8, 0.95)),
])  # fmt: skip
def test_dials_offer_what_the_reducer_takes(
    methods: tuple[str, ...], values: tuple[float, float, float]
) -> None:
    parsed = tuple(map(parse_method, methods))
    dial, _ = dial_of(parsed, 144)
    assert dial is not None and (dial.values[0], dial.usual, dial.values[-1]) == values
    turned = dial.turned(parsed, dial.values[-1])
    assert getattr(turned[-1], dial.setting) == dial.values[-1] and turned[:-1] == parsed[:-1]


@pytest.mark.parametrize(("method", "why"), [
    ("LoRA()", "no reducer"),
    ("Bipartite()", "Bipartite has no one number"),
    ("ToMe(r=(8, -1))", "no slider"),
])  # fmt: skip
def test_without_a_dial_the_page_says_why(method: str, why: str) -> None:
    dial, said = dial_of((parse_method(method),), 144)
    assert dial is None and why in said


@pytest.mark.parametrize("name", METHODS)
def test_variants_are_the_same_weights_with_other_numbers(name: str, runs: dict[str, Path]) -> None:
    viewed = Viewed(name, runs[name], threading.Lock())
    value = 0.8 if name == "kept" else 7.0
    model = viewed.variant(value)
    assert model is viewed.variant(value) and viewed.variant(None) is viewed.trained
    trained = vitrim.load(runs[name]).state_dict()
    assert all(torch.equal(tensor, trained[key]) for key, tensor in model.state_dict().items())
    other = METHODS[name][1].replace("keep=0.5", "keep=0.8").replace("r=4", "r=7")
    whole = vitrim.compose(BACKBONE, METHODS[name][0], other, num_classes=3).eval()
    whole.load_state_dict(trained)
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(model(images), whole(images))
        assert not torch.equal(model(images), viewed.trained(images))
    shared = model.vit.blocks[0].mlp.fc1.weight.data_ptr()
    assert shared == viewed.trained.vit.blocks[0].mlp.fc1.weight.data_ptr()
    with pytest.raises(ValueError, match="must be one of"):
        viewed.variant(0.123)


def test_answers_are_those_of_predict(address: str, runs: dict[str, Path]) -> None:
    picture = encoded(drawing(1))
    seen = httpx.post(f"{address}/v1/view?run=kept", content=picture, timeout=30).json()
    guess = vitrim.predict(runs["kept"], [picture])[0]
    assert seen["guesses"][0]["name"] == guess.name
    assert seen["guesses"][0]["value"] == pytest.approx(guess.probability, abs=1e-5)
    assert seen["milliseconds"] > 0 and seen["milliseconds_plain"] > 0 and seen["tokens_at_start"] == 144
    assert [each["block"] for each in seen["maps"]] == [3, 6]
    assert seen["maps"][0]["tokens"] == 73  # half of 144, and the fused one


@pytest.mark.parametrize(("query", "body", "status", "said"), [
    ("run=other", b"x", 404, "no run 'other'"),
    ("run=kept&value=0.123", None, 400, "keep must be one of"),
    ("run=kept&value=nan", None, 400, "keep must be one of"),
    ("run=kept", b"no picture", 422, "picture"),
    ("run=kept", huge_header(), 413, "shrink it first"),
    ("run=kept", encoded(drawing(4, (2000, 1001))), 413, "this server takes at most 2 million"),
    ("run=kept", b"", 400, "no picture was sent"),
], ids=("run", "value", "nan", "broken", "bomb", "large", "empty"))  # fmt: skip
def test_refusals(address: str, query: str, body: bytes | None, status: int, said: str) -> None:
    content = encoded(drawing(2)) if body is None else body
    answer = httpx.post(f"{address}/v1/view?{query}", content=content, timeout=30)
    assert (answer.status_code, said in answer.json()["error"]) == (status, True), answer.text
    stranger = httpx.get(f"{address}/view", headers={"host": "evil.example"})
    assert stranger.status_code == 403


def test_only_this_machine(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(runs["kept"]), "--host", "0.0.0.0"]) == 2
    assert "host must be 127.0.0.1" in capsys.readouterr().err
    many = [f"{letter}={runs['kept']}" for letter in "abc"]
    assert main(["view", *many]) == 2
    assert "one run, or two to compare, got 3" in capsys.readouterr().err


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_in_a_browser(address: str, browser: Any, width: int, scheme: str) -> None:
    with watched_page(browser, width, scheme) as watched:
        drive(watched.page, address, width)
        assert [url for url in watched.asked if not url.startswith((address, "data:"))] == []
        assert watched.said == []


def drive(page: Any, address: str, width: int) -> None:
    page.goto(f"{address}/view")
    page.wait_for_selector(".run")
    page.evaluate(DROP, list(encoded(drawing(3))))
    for card in (".run:nth-child(1)", ".run:nth-child(2)"):
        page.wait_for_selector(f"{card} img.map")
        assert "ms" in page.inner_text(f"{card} .speed") and HOSTILE in page.inner_text(f"{card} .answer")
    card = ".run:nth-child(1)"
    before = page.get_attribute(f"{card} img.map", "src")
    page.focus(f"{card} input.block")
    page.keyboard.press("ArrowLeft")
    other = page.get_attribute(f"{card} img.map", "src")
    assert other != before and "after block 3" in page.inner_text(f"{card} figcaption >> nth=1")
    speed = page.query_selector(f"{card} .speed")
    page.focus(f"{card} input.keep")
    page.keyboard.press("ArrowRight")
    speed.wait_for_element_state("hidden")  # its place is taken by the new answer
    assert page.get_attribute(f"{card} img.map", "src") != other
    words = page.inner_text(f"{card} figcaption >> nth=1")
    assert "81 tokens" in words  # ceil(0.55 * 144), and the fused one
    assert page.get_attribute(f"{card} img.map", "alt").startswith("Map of tokens: 8")
    assert page.evaluate("document.documentElement.scrollWidth") <= width  # nothing is cut
