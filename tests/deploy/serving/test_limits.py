"""What is taken on is bounded: pictures, bytes, seconds. What is beyond is refused; others are answered."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest
import torch
from PIL import Image
from served import Pool, ask, client, drawing, encoded, huge_header, pictures, together
from torchvision import transforms

from vitrim.backbones.preprocess import Preprocess
from vitrim.data.transforms import ImageTransform, eval_transform
from vitrim.deploy.pool import AdapterPool
from vitrim.deploy.serving import decoding
from vitrim.deploy.serving.application import make_application
from vitrim.deploy.serving.decoding import Decoder, PixelBudget
from vitrim.deploy.serving.refusal import Refusal
from vitrim.deploy.serving.settings import Serving

SMALL = Preprocess((32, 32), (0.5,) * 3, (0.5,) * 3)

GOOD = pictures()["plain.png"]
ASKED = {"params": {"adapter": "lora"}, "content": GOOD}


@pytest.fixture
def held_up(pool: AdapterPool) -> Iterator[tuple[Pool, threading.Event]]:
    """A pool that computes only once it is let go."""
    slow, go_on = Pool(pool), threading.Event()
    slow.before = lambda adapters: go_on.wait(30) and None  # type: ignore[method-assign]
    yield slow, go_on
    go_on.set()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def test_more_pictures_than_the_queue_holds_are_sent_away(held_up: tuple[Pool, threading.Event]) -> None:
    slow, go_on = held_up
    application = make_application(slow, Serving(queue=3))
    service = application.state.service

    async def crowd() -> tuple[httpx.Response, list[httpx.Response]]:
        async with client(application) as http:
            waiting = [asyncio.ensure_future(http.post("/v1/predict", **ASKED)) for _ in range(3)]
            await until(lambda: service.in_flight == 3)
            away = await http.post("/v1/predict", **ASKED)
            go_on.set()
            answered = list(await asyncio.gather(*waiting))
            answered.append(await http.post("/v1/predict", **ASKED))
            return away, answered

    away, answered = together(crowd())
    assert away.status_code == 429 and int(away.headers["retry-after"]) >= 1
    assert "3 pictures wait already" in away.json()["error"]
    assert [answer.status_code for answer in answered] == [200] * 4
    assert service.in_flight == 0


def test_what_takes_too_long_is_given_up(held_up: tuple[Pool, threading.Event]) -> None:
    slow, go_on = held_up
    application = make_application(slow, Serving(timeout=0.4))
    answer = ask(application, "POST", "/v1/predict", **ASKED)
    assert answer.status_code == 504 and "within 0.4 s" in answer.json()["error"]
    assert application.state.service.in_flight == 0
    go_on.set()
    assert ask(application, "POST", "/v1/predict", **ASKED).status_code == 200


def test_what_was_given_up_is_not_computed(held_up: tuple[Pool, threading.Event]) -> None:
    slow, go_on = held_up
    application = make_application(slow, Serving(timeout=0.4))

    async def two() -> None:
        async with client(application) as http:
            first = asyncio.ensure_future(http.post("/v1/predict", **ASKED))
            await until(lambda: bool(slow.batches))
            await http.post("/v1/predict", **ASKED)  # waits behind the first, and in vain
            await first

    together(two())
    go_on.set()
    application.state.service.close()
    assert slow.batches == [("lora",)]


def test_a_body_that_comes_too_slowly_is_given_up(pool: AdapterPool) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        yield GOOD[:100]
        await asyncio.sleep(1)
        yield GOOD[100:]

    application = make_application(pool, Serving(timeout=0.3))
    answer = ask(application, "POST", "/v1/predict", params={"adapter": "lora"}, content=trickle())
    assert answer.status_code == 408 and "did not arrive within" in answer.json()["error"]


def test_bodies_are_counted_as_they_come(pool: AdapterPool) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield bytes(100_000)

    application = make_application(pool, Serving(max_megabytes=1))
    answer = ask(application, "POST", "/v1/predict", params={"adapter": "lora"}, content=endless())
    assert answer.status_code == 413
    assert "held_bytes 0.0" in ask(application, "GET", "/metrics").text


def test_all_bodies_together_are_bounded(pool: AdapterPool) -> None:
    application = make_application(pool, Serving(max_megabytes=1, max_held_megabytes=1))
    go_on = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield bytes(600_000)
        await go_on.wait()

    async def two() -> tuple[httpx.Response, httpx.Response]:
        async with client(application) as http:
            first = asyncio.ensure_future(
                http.post("/v1/predict", params={"adapter": "lora"}, content=half())
            )
            while "held_bytes 600000.0" not in (await http.get("/metrics")).text:
                await asyncio.sleep(0.01)
            second = await http.post("/v1/predict", params={"adapter": "lora"}, content=bytes(600_000))
            go_on.set()
            return await first, second

    first, second = together(two())
    assert second.status_code == 429 and int(second.headers["retry-after"]) >= 1
    assert first.status_code == 422  # taken in, and no picture
    assert "held_bytes 0.0" in ask(application, "GET", "/metrics").text


def test_what_a_header_declares_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(decoding, "read_found", fail)
    decoder = Decoder(most_pixels=1_000_000)
    for content in (huge_header(), encoded(drawing(1, (1001, 1000)))):
        with pytest.raises(Refusal) as refusal:
            decoder.decode(("the picture", content), eval_transform(SMALL))
        assert refusal.value.status == 413
    decoder.close()


def test_pictures_decoded_at_once_share_one_budget() -> None:
    most, open_now, highest, lock = 20_000, 0, 0, threading.Lock()
    decoder = Decoder(most, threads=8)

    class Watching(ImageTransform):
        def __call__(self, image: Image.Image) -> torch.Tensor:
            nonlocal open_now, highest
            with lock:
                open_now += image.width * image.height
                highest = max(highest, open_now)
            threading.Event().wait(0.002)
            with lock:
                open_now -= image.width * image.height
            return torch.zeros(1)

    watching = Watching(SMALL, transforms.Compose([]), transforms.Compose([]))

    files = [encoded(drawing(index, (60 + index % 7 * 10, 100))) for index in range(60)]
    files[30] = encoded(drawing(0, (200, 100)))  # takes the whole budget

    async def every() -> None:
        await asyncio.gather(*(decoder.tensor(("x", file), watching) for file in files))

    together(every())
    decoder.close()
    assert 12_000 < highest <= most  # several at once, and never too many


def test_a_large_picture_is_not_passed_for_ever() -> None:
    budget, order = PixelBudget(10), []
    inside, go_on = threading.Event(), threading.Event()

    def take(name: str, count: int) -> None:
        with budget.taking(count):
            order.append(name)
            inside.set()
            go_on.wait(20)

    threads = [threading.Thread(target=take, args=("small", 5))]
    threads[0].start()
    assert inside.wait(20)
    for name, count in (("large", 10), ("late", 5)):
        threads.append(threading.Thread(target=take, args=(name, count)))
        threads[-1].start()
        threading.Event().wait(0.1)
    assert order == ["small"]  # "late" would fit, but "large" came first
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert sorted(order[1:]) == ["large", "late"] and order[1] == "large"


def test_closing_answers_what_was_accepted_and_takes_nothing_more(
    held_up: tuple[Pool, threading.Event], tmp_path: Path
) -> None:
    slow, go_on = held_up
    application = make_application(slow)
    service = application.state.service

    async def close() -> tuple[httpx.Response, httpx.Response, httpx.Response]:
        async with client(application) as http:
            accepted = asyncio.ensure_future(http.post("/v1/predict", **ASKED))
            await until(lambda: bool(slow.batches))
            async with application.router.lifespan_context(application):
                threading.Timer(0.2, go_on.set).start()
            late, ready = await http.post("/v1/predict", **ASKED), await http.get("/v2/health/ready")
            return await accepted, late, ready

    accepted, late, ready = together(close())
    assert accepted.status_code == 200
    assert (late.status_code, ready.status_code) == (503, 503)
    assert service.batcher.thread is not None and not service.batcher.thread.is_alive()
