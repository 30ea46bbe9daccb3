"""What is wrong with an image, in one sentence that names it."""

import re

RAISED = re.compile(r"^vitrim\.data\.image_errors\.\w+: ", re.MULTILINE)


class ImageError(ValueError):
    """An image that cannot be used; the message names it."""

    def __init__(self, message: str) -> None:
        # A loader's reading process sends an error as a whole traceback, in which our sentence comes last.
        super().__init__(RAISED.split(message)[-1].strip())


class ChannelsError(ImageError):
    """A sound image of other channels or numbers than the model takes."""


class MissingImageError(ImageError, FileNotFoundError):
    """A listed image whose file is not there."""


class TooManyPixelsError(ImageError):
    """An image whose header declares more pixels than are decoded."""
