"""What every test starts from."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run in parallel: one thread for each

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from browsing import running_browser


@pytest.fixture(autouse=True)
def same_weights_every_time() -> None:
    """Fresh weights are random: a test that fails must fail again when it is run again, alone or not."""
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running_browser() as running:
        yield running
