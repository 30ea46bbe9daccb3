"""From the bytes of an image file to the tensor an adapter expects, in a few threads and bounded memory.

The decoder is the one that `vitrim predict` uses (data/images.py), so that a picture sent to the server
becomes the same pixels: upright, 8-bit RGB, resized and normalised as the adapter was trained. What a header
declares is checked before anything is decoded, and the pictures decoded at once have together no more pixels
than one picture may have.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from torch import Tensor

from vitrim.data.images import ImageError, TooManyPixelsError, stored_size
from vitrim.data.transforms import ImageTransform
from vitrim.deploy.serving.refusal import Refusal
from vitrim.measuring.machine import cpu_count
from vitrim.runs.given_images import read_found

Result = TypeVar("Result")
Picture = tuple[str, bytes]
"""What messages call it, and its file"""


class Decoder:
    """The threads, and the budget of pixels they share."""

    def __init__(self, most_pixels: int, threads: int | None = None) -> None:
        self.most_pixels = most_pixels
        self.budget = PixelBudget(most_pixels)
        self.threads = ThreadPoolExecutor(threads or min(8, cpu_count()), thread_name_prefix="vitrim-decode")

    async def run(self, work: Callable[[], Result]) -> Result:
        """Any work that would hold up the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, work)

    async def tensor(self, picture: Picture, transform: ImageTransform) -> Tensor:
        """The input [C, height, width] that a picture becomes."""
        return await self.run(lambda: self.decode(picture, transform))

    def decode(self, picture: Picture, transform: ImageTransform) -> Tensor:
        name, content = picture
        try:
            width, height = stored_size(io.BytesIO(content), name)
            if width * height > self.most_pixels:
                raise TooManyPixelsError(
                    f"{name} has {width:,} x {height:,} pixels; this server takes at most "
                    f"{self.most_pixels / 1e6:g} million, so shrink it first"
                )
            with self.budget.taking(width * height):
                return transform(read_found(picture, *transform.wants))
        except TooManyPixelsError as error:
            raise Refusal(413, str(error)) from error
        except ImageError as error:
            raise Refusal(422, str(error)) from error

    def close(self) -> None:
        self.threads.shutdown(cancel_futures=True)


class PixelBudget:
    """Lets pictures in, first come, first served, while they have together at most `most` pixels."""

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, 0
        self.turn = threading.Lock()
        self.changed = threading.Condition()

    @contextmanager
    def taking(self, count: int) -> Iterator[None]:
        with self.turn, self.changed:  # small pictures do not pass a large one that waits
            self.changed.wait_for(lambda: self.taken + count <= self.most)
            self.taken += count
        try:
            yield
        finally:
            with self.changed:
                self.taken -= count
                self.changed.notify()
