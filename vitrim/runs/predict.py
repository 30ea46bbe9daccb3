"""Name what is on pictures or in clips: images in, class names and probabilities out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vitrim.backbones.packed import Images
from vitrim.checks import check_positive
from vitrim.data.clips.reader import ClipReader
from vitrim.data.clips.sampling import ClipSampling
from vitrim.data.clips.transforms import ClipViews
from vitrim.data.images import ImageError
from vitrim.data.transforms import ImageTransform, eval_transform
from vitrim.measuring.devices import pick_device
from vitrim.measuring.machine import cpu_count
from vitrim.network.model import StagedViT
from vitrim.runs.given_clips import each_clip, stored_sampling
from vitrim.runs.given_images import Found, GivenImages, each_image, read_found
from vitrim.runs.kinds import KINDS
from vitrim.runs.kinds.kind import Answering, output_names
from vitrim.runs.native import Packing, native_transform, to_device
from vitrim.runs.opening import open_model
from vitrim.video.model import VideoModel

FIRST_BATCH = 4  # small, so that the first results are there at once; then doubled up to batch_size


class Prediction(NamedTuple):
    path: str
    """of the image file; "image 3" for the fourth of images in memory"""
    name: str
    """of the class, label or target"""
    probability: float
    """or, of a target, the value predicted"""


def predict(
    model: StagedViT | str | Path,
    images: GivenImages,
    *,
    top: int = 1,
    batch_size: int = 64,
    device: str | None = None,
    clips: ClipSampling | None = None,
    native: int | None = None,
) -> list[Prediction]:
    """The `top` most probable classes of every image, best first. Of several labels, all that are at least
    half probable, and no fewer than `top`; of numbers, every target.

    Images are paths, folders (for all pictures below them), bytes of image files, PIL images, arrays
    [height, width, 3] or [height, width] and tensors [3, height, width] of uint8, or a list or generator of
    these. With `native`, each at its own aspect ratio, resized to at most so many patches (NaFlexViT).
    `predictions` takes the same and gives each result as soon as it is there.

    A video model takes paths of clips: video files, folders of frames, .npy arrays, folders of these. A run
    knows how it chose frames; for a model in memory `clips` says it.
    """
    found = predictions(
        model, images, top=top, batch_size=batch_size, device=device, clips=clips, native=native
    )
    return [guess for best in found for guess in best]


def predictions(
    model: StagedViT | str | Path,
    images: GivenImages,
    *,
    top: int = 1,
    batch_size: int = 64,
    device: str | None = None,
    unread: Counter[str] | None = None,
    broken: list[str] | None = None,
    clips: ClipSampling | None = None,
    native: int | None = None,
) -> Iterator[list[Prediction]]:
    """`predict`, one picture after the other, the guesses of each as a list, best first: a folder of a
    million pictures begins at once and is never held in memory.

    `unread` counts the pictures in folders that are in no format vitrim reads. An image that cannot be read
    is an error, after the results of those before it; with a list for `broken` it is left out and told
    there.
    """
    staged = open_model(model) if isinstance(model, str | Path) else model
    if not isinstance(top, int) or not 1 <= top <= staged.num_classes:
        raise ValueError(f"top must be between 1 and the number of classes ({staged.num_classes}), got {top}")
    check_positive("predict", "batch_size", batch_size)
    place, transform = pick_device(device), eval_transform(staged.preprocess)
    if isinstance(staged, VideoModel):
        if native is not None:
            raise ValueError("native is for images at their own aspect ratio; a video model takes clips")
        clips = clips or _stored(model)
        at_once = max(1, batch_size // (clips.frames * clips.views * clips.crops))  # frames count as images
        view = partial(_ready_clip, ClipViews.of(transform), ClipReader(clips))
        how = _How(view, torch.stack, top, at_once, place)
        return _in_batches(staged, each_clip(images, unread), how, broken)
    if native is None:
        how = _How(partial(_ready, transform), torch.stack, top, batch_size, place)
    else:
        packed = partial(_ready, native_transform(staged, native))
        how = _How(packed, Packing(staged).images, top, batch_size, place)
    return _in_batches(staged, each_image(images, unread), how, broken)


def _stored(model: StagedViT | str | Path) -> ClipSampling:
    if isinstance(model, str | Path):
        return stored_sampling(model)
    raise ValueError(
        "a video model in memory does not say how frames are chosen; give clips=ClipSampling(...)"
    )


class _How(NamedTuple):
    ready: Callable[[Found], Tensor | ImageError]
    together: Callable[[list[Tensor]], Images]
    top: int
    batch_size: int
    device: torch.device


def _in_batches(
    model: StagedViT,
    images: Iterator[Found],
    how: _How,
    broken: list[str] | None,
) -> Iterator[list[Prediction]]:
    size = min(FIRST_BATCH, how.batch_size)
    with ThreadPoolExecutor(min(8, cpu_count())) as threads:
        while chunk := list(islice(images, size)):
            good: list[tuple[str, Tensor]] = []
            failed: ImageError | None = None
            for (called, _), outcome in zip(chunk, threads.map(how.ready, chunk), strict=True):
                if isinstance(outcome, Tensor):
                    good.append((called, outcome))
                elif broken is not None:
                    broken.append(str(outcome))
                else:
                    failed = outcome
                    break
            if good:
                batch = how.together([pixels for _, pixels in good])  # [B, C, height, width], or packed
                yield from _best(model, batch, [called for called, _ in good], how.top, how.device)
            if failed is not None:
                raise failed
            size = min(2 * size, how.batch_size)


def _ready(transform: ImageTransform, found: Found) -> Tensor | ImageError:
    try:
        return transform(read_found(found, *transform.wants))
    except ImageError as error:
        return error


def _ready_clip(views: ClipViews, reader: ClipReader, found: Found) -> Tensor | ImageError:
    try:
        return views.read(reader, found[0])  # [V, channels, T, height, width]
    except ImageError as error:
        return error


@torch.inference_mode()
def _best(
    model: StagedViT, batch: Images, called: Sequence[str], top: int, device: torch.device
) -> list[list[Prediction]]:
    training = model.training
    try:
        outputs = model.to(device).eval()(to_device(batch, device))
    finally:
        model.train(training)
    return guesses(model, outputs, called, top)


def guesses(model: Answering, outputs: Tensor, called: Sequence[str], top: int) -> list[list[Prediction]]:
    """What the outputs [B, classes] say of each image, best first; `called` names the images."""
    names = output_names(model)
    if model.task != "classify":
        answers = KINDS[model.task].answers(model, outputs).tolist()
        return [
            [Prediction(name, output, value) for output, value in KINDS[model.task].shown(names, answer, top)]
            for name, answer in zip(called, answers, strict=True)
        ]
    probabilities, classes = outputs.float().softmax(1).topk(top)  # [B, top]
    return [
        [Prediction(name, names[index], share) for index, share in zip(indices, shares, strict=True)]
        for name, indices, shares in zip(called, classes.tolist(), probabilities.tolist(), strict=True)
    ]


def list_pictures(images: GivenImages) -> list[Path]:
    """The image files named, with folders replaced by the pictures below them."""
    return [source for _, source in each_image(images) if isinstance(source, Path)]
