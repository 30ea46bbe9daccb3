"""One picture explained: what a model says to it, which tokens it kept block by block, and what it attends to
beside the plain backbone.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from vitrim.data.images import ImageError
from vitrim.data.transforms import eval_transform
from vitrim.files.variants import load_part
from vitrim.network.model import StagedViT
from vitrim.report.chart import spread_evenly, to_png
from vitrim.report.maps.attention import AttentionMap, attention_maps, overlay, shared_scale
from vitrim.report.maps.pixels import Pixels, as_pictures
from vitrim.report.maps.sheet import Panel, sheet
from vitrim.report.maps.strips import map_strip
from vitrim.report.maps.tokens import TokenMap, kept_by_block, token_map
from vitrim.report.traced import FATES, Traced, trace
from vitrim.runs.folder import RunFolder
from vitrim.runs.given_images import Found, GivenImages, each_image, read_found
from vitrim.runs.kinds import KINDS
from vitrim.runs.kinds.kind import output_names
from vitrim.runs.opening import open_model
from vitrim.video.refusing import refuse_clips
from vitrim.writing import write_whole

SHOWN = 7  # maps beside each other
DPI = 130
PLAIN, REDUCED, TUNED, WHOLE = (
    "plain backbone",
    "backbone with the reducers",
    "tuned, all tokens",
    "this model",
)


@dataclass(frozen=True)
class Explained:
    """One picture.

    Attributes:
        name: of the file; "image 3" for the fourth of images in memory.
        guesses: names and their probabilities (values, of targets), best first.
        picture: as the model sees it, [height, width, 3].
        maps: after each block that shortens the sequence.
        attention: of the last block, of every variant of the model there is; the first is the plain backbone
            where it is known.
    """

    name: str
    guesses: tuple[tuple[str, float], ...]
    picture: Pixels
    maps: tuple[TokenMap, ...]
    attention: tuple[AttentionMap, ...]

    def figure(self) -> Figure:
        """The picture and its maps: tokens above, attention below."""
        chosen = [self.maps[place] for place in spread_evenly(len(self.maps), SHOWN - 1)]
        tokens: list[Panel] = [("as the model sees it", self.picture)]
        tokens += [(f"after block {each.block}: {_left(each)}", each.picture) for each in chosen]
        most = shared_scale(self.attention)
        looks = [(_caption(each), overlay(self.picture, each.values, most)) for each in self.attention]
        said = ", ".join(f"{name} {value:.3g}" for name, value in self.guesses[:3])
        return sheet(f"{Path(self.name).name}: {said}", [tokens, looks])

    def to_json(self) -> dict[str, Any]:
        """Everything shown, as numbers."""
        return {
            "picture": self.name,
            "guesses": [{"name": name, "value": value} for name, value in self.guesses],
            "blocks": [
                {
                    "block": each.block,
                    "patches": dict(zip(FATES, kept_by_block([each])[0][1:], strict=True)),
                    "skipped": int(each.skipped.sum()),
                    "scattered_tokens": each.scattered[0],
                    "token_of_each_patch": each.group.tolist(),
                }
                for each in self.maps
            ],
            "attention": [
                {
                    "of": each.name,
                    "cosine_to_first": each.cosine,
                    "jensen_shannon_to_first_bits": each.divergence,
                    "of_each_patch": [[None if v != v else v for v in row] for row in each.values.tolist()],
                }
                for each in self.attention
            ],
        }

    def save(self, folder: str | Path, name: str | None = None) -> Path:
        """Write NAME.png and NAME.json; returns the picture's path.

        What explained a picture before is replaced, and nothing else: a picture never by its explanation.
        """
        place = Path(folder)
        if place.exists() and not place.is_dir():
            raise NotADirectoryError(f"{place} is a file, and explanations go into a folder; name one")
        place.mkdir(parents=True, exist_ok=True)
        called = name or file_name(self.name)
        for file in (place / f"{called}.json", place / f"{called}.png"):
            if file.exists() and not _explains(place / f"{called}.json"):
                raise FileExistsError(
                    f"{file} is there already and explains no picture; give another folder to write to"
                )
        write_whole(place / f"{called}.json", (json.dumps(self.to_json()) + "\n").encode())
        write_whole(place / f"{called}.png", to_png(self.figure(), DPI))
        return place / f"{called}.png"


def explain(
    model: StagedViT | str | Path,
    images: GivenImages,
    *,
    top: int = 5,
    unread: Counter[str] | None = None,
    broken: list[str] | None = None,
) -> Iterator[Explained]:
    """Each image explained, one after the other.

    Args:
        model: a run folder or saved model file, whose backbone before training is shown beside it; or a model
            in memory, which is shown alone.
        images: as `vitrim.predict` takes them.
        top: how many classes to name.
        unread: counts the pictures in folders that are in no format vitrim reads.
        broken: gets a sentence for each image that cannot be read, which is then passed over; not given: that
            is an error.
    """
    variants = open_variants(model)
    whole = variants[WHOLE]
    refuse_clips(whole, "explain")
    if not isinstance(top, int) or isinstance(top, bool) or top < 1:
        raise ValueError(f"top must be a whole number of at least 1, got {top!r}")
    return _each(variants, each_image(images, unread), min(top, max(whole.num_classes, 1)), broken)


def _each(
    variants: Mapping[str, StagedViT], images: Iterator[Found], top: int, broken: list[str] | None
) -> Iterator[Explained]:
    for found in images:
        try:
            explained = _explained(variants, found, top)
        except ImageError as error:
            if broken is None:
                raise
            broken.append(str(error))
        else:
            yield explained


def open_variants(model: StagedViT | str | Path) -> dict[str, StagedViT]:
    """The model, and what is known of it without its tuners, its reducers or both; plain backbone first."""
    if isinstance(model, StagedViT):
        return {WHOLE: model}
    whole = open_model(model)
    file = RunFolder(model).model_file if Path(model).is_dir() else Path(model)
    found: dict[str, StagedViT] = {}
    reduces = {method.reduces for method in whole.methods}
    parts = [("backbone", PLAIN)] if reduces else []  # else the model itself is that
    if len(reduces) == 2:
        parts += [("reducers", REDUCED), ("tuners", TUNED)]
    for part, name in parts:
        variant = load_part(file, part)
        if variant is not None:
            found[name] = variant
    return {**found, WHOLE: whole}


def _explained(variants: Mapping[str, StagedViT], found: Found, top: int) -> Explained:
    whole = variants[WHOLE]
    transform = eval_transform(whole.preprocess)
    images = transform(read_found(found, *transform.wants))[None]
    like = next(whole.parameters())
    traced = {
        name: trace(variant, images.to(device=like.device, dtype=like.dtype))
        for name, variant in variants.items()
    }
    pixels = as_pictures(whole, images)[0]
    return Explained(
        found[0],
        guesses_of(whole, traced[WHOLE], top)[0],
        pixels,
        tuple(maps_of(traced[WHOLE], [pixels])[0]),
        tuple(attention_maps(traced, 0)),
    )


def maps_of(traced: Traced, pictures: list[Pixels]) -> list[list[TokenMap]]:
    """For each image, its map after every block that shortens the sequence; of a clip, a strip of those of
    its frames."""
    found = [
        [token_map(pixels, block, image, traced.grid) for block in traced.shortening]
        for image, pixels in enumerate(pictures)
    ]
    if traced.frames is None:
        return found
    clips = [found[start : start + traced.frames] for start in range(0, len(found), traced.frames)]
    return [[map_strip(maps) for maps in zip(*frames, strict=True)] for frames in clips]


def guesses_of(model: StagedViT, traced: Traced, top: int) -> list[tuple[tuple[str, float], ...]]:
    """What a model says to each image of a batch: names and probabilities, best first."""
    if model.num_classes == 0:
        return [() for _ in traced.logits]
    names = output_names(model)
    if model.task != "classify":
        kind = KINDS[model.task]
        return [
            tuple(kind.shown(names, answer, top)) for answer in kind.answers(model, traced.logits).tolist()
        ]
    shares, classes = torch.topk(traced.logits.float().softmax(1), top, dim=1)
    return [
        tuple((names[index], share) for index, share in zip(row, of, strict=True))
        for row, of in zip(classes.tolist(), shares.tolist(), strict=True)
    ]


def _explains(file: Path) -> bool:
    """Whether this is a file of `Explained.save`."""
    try:
        told = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(told, dict) and {"picture", "guesses", "blocks", "attention"} <= set(told)


def file_name(name: str) -> str:
    """A picture's name as a new file may bear it."""
    return re.sub(r"[^\w.-]+", "-", Path(name).stem).strip("-.")[:80] or "image"


def _left(each: TokenMap) -> str:
    tokens = len(set(each.group[each.group >= 0].tolist()))
    return f"{tokens} tokens" + (
        " (one fused)" if (each.fate == FATES.index("fused into one token")).any() else ""
    )


def _caption(each: AttentionMap) -> str:
    if each.cosine is None or each.divergence is None:
        return f"attention,\n{each.name}"
    return f"{each.name}\ncosine {each.cosine:.2f}, JS {each.divergence:.2f} bit"
