"""Pictures of many requests become batches; each gets its own answer, and none waits for nothing."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from vitrim.deploy.serving.batching import Batcher

LONG = 30.0  # seconds that no test waits


class Sums:
    """Computes [sum of the picture, number of the adapter], and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.begun = threading.Event()

    def __call__(self, images: Tensor, adapters: Sequence[str]) -> list[Tensor]:
        self.batches.append(list(adapters))
        self.begun.set()
        assert self.go_on.wait(LONG)
        if "broken" in adapters:
            raise ValueError("this adapter is broken")
        return [
            torch.tensor([image.sum(), float(name)]) for image, name in zip(images, adapters, strict=True)
        ]


def batcher(sums: Sums, max_batch: int = 8, max_wait: float = 0.0, coming: int = 0) -> Batcher:
    return Batcher(sums, max_batch, max_wait, lambda: coming, lambda pictures, seconds: None)


def picture(value: float, side: int = 2) -> Tensor:
    return torch.full((1, side, side), value)


def test_every_picture_gets_its_own_answer() -> None:
    sums = Sums()
    made = batcher(sums)
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda i: made.submit(picture(i), str(i % 5)).result(LONG), range(300)))
    made.close()
    assert [answer.tolist() for answer in answers] == [[4.0 * i, i % 5] for i in range(300)]
    assert max(map(len, sums.batches)) <= 8


def test_those_that_come_during_a_batch_make_the_next() -> None:
    sums = Sums()
    sums.go_on.clear()
    made = batcher(sums)
    answers = [made.submit(picture(0), "0")]
    assert sums.begun.wait(LONG)
    answers += [made.submit(picture(i), str(i)) for i in range(1, 11)]
    sums.go_on.set()
    made.close()
    assert [len(batch) for batch in sums.batches] == [1, 8, 2]
    assert [answer.result()[1].item() for answer in answers] == list(range(11))


def test_a_picture_on_its_own_does_not_wait_for_company() -> None:
    made = batcher(Sums(), max_wait=LONG, coming=0)
    started = time.monotonic()
    made.submit(picture(1), "1").result(LONG)
    made.close()
    assert time.monotonic() - started < LONG / 3


def test_a_picture_waits_for_those_being_decoded_until_the_batch_is_full() -> None:
    sums = Sums()
    made = batcher(sums, max_batch=2, max_wait=LONG, coming=1)
    first = made.submit(picture(1), "1")
    time.sleep(0.05)
    assert not sums.batches and not first.done()
    made.submit(picture(2), "2").result(LONG)
    made.close()
    assert sums.batches == [["1", "2"]]


def test_a_picture_waits_no_longer_than_it_was_told() -> None:
    made = batcher(Sums(), max_wait=0.05, coming=1)
    assert made.submit(picture(1), "1").result(LONG).tolist() == [4.0, 1.0]
    made.close()


def test_what_is_cancelled_is_not_computed() -> None:
    sums = Sums()
    sums.go_on.clear()
    made = batcher(sums)
    made.submit(picture(0), "0")
    assert sums.begun.wait(LONG)
    gone, stays = made.submit(picture(1), "1"), made.submit(picture(2), "2")
    assert gone.cancel()
    sums.go_on.set()
    made.close()
    assert sums.batches == [["0"], ["2"]] and stays.result()[1] == 2


def test_a_broken_adapter_takes_no_other_along() -> None:
    sums = Sums()
    sums.go_on.clear()
    made = batcher(sums)
    made.submit(picture(0), "0")
    assert sums.begun.wait(LONG)
    answers = {name: made.submit(picture(3), name) for name in ("1", "broken", "2")}
    sums.go_on.set()
    made.close()
    assert answers["1"].result().tolist() == [12.0, 1.0] and answers["2"].result().tolist() == [12.0, 2.0]
    with pytest.raises(ValueError, match="this adapter is broken"):
        answers["broken"].result()


def test_pictures_of_other_sizes_are_computed_apart() -> None:
    sums = Sums()
    sums.go_on.clear()
    made = batcher(sums)
    made.submit(picture(0), "0")
    assert sums.begun.wait(LONG)
    answers = [made.submit(picture(1, side), "1") for side in (2, 3, 2)]
    sums.go_on.set()
    made.close()
    assert [answer.result()[0].item() for answer in answers] == [4.0, 9.0, 4.0]
    assert [len(batch) for batch in sums.batches] == [1, 2, 1]


def test_nothing_is_taken_after_the_end() -> None:
    made = batcher(Sums())
    made.close()
    with pytest.raises(RuntimeError, match="closed"):
        made.submit(picture(1), "1")
