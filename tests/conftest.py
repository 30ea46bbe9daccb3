"""What every test starts from."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run in parallel: one thread for each

import gc
import tempfile
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
from browsing import running_browser
from forked_python import ForkedPython

FORKED = pytest.StashKey[ForkedPython]()


def pytest_configure(config: pytest.Config) -> None:
    """Whoever runs tests forks before it has done anything else; who only hands them out imports nothing."""
    hands_out = config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput")
    if hasattr(os, "pidfd_open") and not hands_out and not config.option.collectonly:
        config.stash[FORKED] = ForkedPython(Path(tempfile.mkdtemp()))


def pytest_unconfigure(config: pytest.Config) -> None:
    if FORKED in config.stash:
        config.stash[FORKED].close()
        rmtree(config.stash[FORKED].path.parent)


def pytest_collection_finish() -> None:
    """Libraries hold 400,000 objects and models are cycles: without this, a third of the time of composing a
    toy goes into searching them all for garbage again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True)
def same_weights_every_time() -> None:
    """Fresh weights are random: a test that fails must fail again when it is run again, alone or not."""
    import torch

    torch.default_generator.manual_seed(0)  # `torch.manual_seed` writes down the stack for CUDA each time


@pytest.fixture
def alone_on_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cluster at a time: two that start beside each other on two processors give each other up."""
    from filelock import FileLock

    with FileLock(tmp_path_factory.getbasetemp().parent / "ray.lock"):
        yield


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def short_measuring() -> Iterator[None]:
    """As many measurements as ever, each a tenth as long: for tests of what is said of them, not of how
    steady they are."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("vitrim.measuring.bench.LEAST_SECONDS", 0.005)
        yield
