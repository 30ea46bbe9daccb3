"""The page in a real browser: it lists, takes a dropped picture, and asks no other machine for anything."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from browsing import DROP, watched_page
from served import CLASSES, pictures, running_server

import vitrim
from vitrim.deploy.pool import AdapterPool
from vitrim.deploy.serving.application import make_application
from vitrim.deploy.serving.page import FILES
from vitrim.deploy.serving.settings import Serving

TOKEN = "page-token"


@pytest.fixture(scope="module")
def address(pool: AdapterPool) -> Iterator[str]:
    serving = Serving(token=TOKEN)
    with running_server(make_application(pool, serving), serving) as found:
        yield found


def test_the_page_lists_adapters_and_answers_a_dropped_picture(
    browser: Any, address: str, files: dict[str, Path]
) -> None:
    with watched_page(browser, 390) as watched:
        drive(watched.page, address, files)
        refused = "Failed to load resource"  # what the browser says of the wrong token and of no picture
        assert [line for line in watched.said if not line.startswith(refused)] == []
        assert [u for u in watched.asked if not u.startswith((f"{address}/", "blob:", "data:"))] == []


def drive(page: Any, address: str, files: dict[str, Path]) -> None:
    page.goto(address)
    page.fill("#token", "wrong")
    page.click("#token-form button")
    page.wait_for_selector("#state:has-text('Bearer')")
    page.fill("#token", TOKEN)
    page.click("#token-form button")
    page.wait_for_selector(".adapter")
    assert page.locator(".adapter b").all_inner_texts() == list(CLASSES)
    content = pictures()["plain.png"]
    page.evaluate(DROP, list(content))
    page.wait_for_selector("#answer li")
    shown = page.locator("#answer .name").all_inner_texts()
    expected = vitrim.predict(files["lora"], content, top=4)
    assert shown == [guess.name for guess in expected]  # one of them is markup, and stays text
    assert page.locator("#answer img").count() == 0
    assert page.locator("#answer .share").all_inner_texts() == [
        f"{100 * g.probability:.2f} %" for g in expected
    ]
    page.check("input[value=numbers]")
    page.wait_for_selector("#took:has-text('numbers:')")
    assert sorted(page.locator("#answer .name").all_inner_texts()) == sorted(CLASSES["numbers"])
    page.evaluate(DROP, list(b"no picture"))
    page.wait_for_selector("#told:not([hidden])")
    assert "is not an image" in page.inner_text("#told")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_readable_in_light_and_dark(browser: Any, address: str, scheme: str) -> None:
    with watched_page(browser, 1280, scheme) as watched:
        watched.page.goto(address)
        colours = watched.page.evaluate(
            "(() => { const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]; })()"
        )
    ink, paper = (_luminance(colour) for colour in colours)
    assert (ink < paper) == (scheme == "light")
    assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) > 7


def _luminance(colour: str) -> float:
    """Relative luminance of rgb(...), as the contrast ratio of WCAG takes it."""
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_page_may_load_nothing_from_elsewhere(address: str) -> None:
    for path in FILES:
        answer = httpx.get(address + path)
        assert answer.status_code == 200
        assert "http://" not in answer.text and "https://" not in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]
