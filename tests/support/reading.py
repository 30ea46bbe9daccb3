"""What is asked of everything that reads images in processes of their own."""

from collections.abc import Callable
from multiprocessing import active_children

import pytest

from vitrim.data import ImageError


def check_readers_end(measured: Callable[[], object], sentence: str) -> None:
    """Where an image cannot be read, the error that says so keeps no process alive while it is held."""
    before = set(active_children())
    with pytest.raises(ImageError, match=sentence) as held:
        measured()
    assert set(active_children()) <= before, held
