"""What every test starts from."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run in parallel: one thread for each

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from browsing import running_browser


def pytest_collection_finish() -> None:
    """Libraries hold 400,000 objects and models are cycles: without this, a third of the time of composing a
    toy goes into searching them all for garbage again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True)
def same_weights_every_time() -> None:
    """Fresh weights are random: a test that fails must fail again when it is run again, alone or not."""
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running_browser() as running:
        yield running
