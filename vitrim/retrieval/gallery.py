"""A folder of pictures as features in one file, and what a few words find in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from vitrim.bounds import Open, Text
from vitrim.checks import check_positive
from vitrim.data.images import ImageError, read_image
from vitrim.data.transforms import eval_transform
from vitrim.reading import parse_json
from vitrim.retrieval.asked import CARRIERS
from vitrim.retrieval.building import build
from vitrim.retrieval.captions import Tokenizer
from vitrim.retrieval.evaluating import Texts, image_features, text_features
from vitrim.retrieval.keeping import load_retrieval, text_digest
from vitrim.retrieval.model import RetrievalModel
from vitrim.retrieval.plan import BLIP, RetrievalPlan
from vitrim.retrieval.ranking import check_scores, ranked
from vitrim.writing import write_whole

HEADER = "vitrim_gallery"


class AboutGallery(Open):
    """The header of a gallery's file."""

    FORMAT: ClassVar[int] = 1
    format: int
    model: Text
    towers: Text


@dataclass(frozen=True)
class Gallery:
    """Pictures with their features.

    Attributes:
        features: [I, C], rows of length one.
        names: paths of the pictures.
        model: the run, or clip:FOLDER, that made the features.
        towers: a digest of its weights: words are compared with features of the same model alone.
    """

    features: Tensor
    names: tuple[str, ...]
    model: str
    towers: str

    def __len__(self) -> int:
        return len(self.names)

    def nearest(self, queries: Tensor, top: int = 5, approximate: bool = False) -> tuple[Tensor, Tensor]:
        """Scores and numbers of the `top` pictures for each query [Q, C], of equal ones the first first.

        Exact products with all, unless `approximate`: then by faiss's graph of neighbours, for galleries of
        many millions, which may miss some.
        """
        check_positive("find", "top", top)
        queries = queries.to(self.features)
        if approximate:
            return _by_graph(self.features, queries, min(top, len(self)))
        scores = queries @ self.features.T  # [Q, I]
        numbers = ranked(scores, top)
        return scores.gather(1, numbers), numbers

    def save(self, file: str | Path) -> None:
        """One safetensors file, whole or not at all."""
        names = "\0".join(self.names).encode(errors="surrogateescape")
        tensors = {
            "features": self.features.contiguous(),
            "names": torch.frombuffer(bytearray(names), dtype=torch.uint8),
        }
        about = {"format": AboutGallery.FORMAT, "model": self.model, "towers": self.towers}
        write_whole(Path(file), to_bytes(tensors, metadata={HEADER: json.dumps(about)}))

    @staticmethod
    def load(file: str | Path) -> Gallery:
        """What `save` wrote."""
        if not Path(file).is_file():
            raise FileNotFoundError(f"there is no gallery {file}; make one with vitrim index")
        try:
            with safe_open(file, framework="pt") as opened:
                header = (opened.metadata() or {}).get(HEADER)
                if header is None:
                    raise ValueError(f"{file} is no gallery; vitrim index makes one")
                about = parse_json(header, AboutGallery, str(file))
                features, names = opened.get_tensor("features"), opened.get_tensor("names")
        except SafetensorError as error:
            raise ValueError(f"{file} is damaged and cannot be read: {error}") from None
        found = names.numpy().tobytes().decode(errors="surrogateescape").split("\0")
        if features.ndim != 2 or len(found) != len(features):
            raise ValueError(f"{file} is damaged: {len(found)} names for features {tuple(features.shape)}")
        check_scores(features)
        return Gallery(features, tuple(found), about["model"], about["towers"])


@dataclass(frozen=True)
class Searcher:
    """A model with its tokenizer, by the name it was opened with."""

    model: RetrievalModel
    tokenizer: Tokenizer
    name: str

    def index(self, paths: Sequence[str], batch_size: int = 64, broken: list[str] | None = None) -> Gallery:
        """Features of pictures. Those that cannot be read are added to `broken`, or refused where that is
        None."""
        check_positive("index", "batch_size", batch_size)
        transform, kept, found = eval_transform(self.model.vision.preprocess), [], []

        def readable() -> Iterator[tuple[str, Tensor]]:
            for path in paths:
                try:
                    yield path, transform(read_image(path, *transform.wants))
                except ImageError as error:
                    if broken is None:
                        raise
                    broken.append(str(error))

        pictures = readable()
        while part := list(islice(pictures, batch_size)):
            kept += [path for path, _ in part]
            found.append(image_features(self.model, [torch.stack([image for _, image in part])]).float())
        if not kept:
            raise ValueError("none of the pictures could be read, so there is nothing to look for")
        return Gallery(torch.cat(found), tuple(kept), self.name, tower_digest(self.model))

    def texts(self, captions: Sequence[str]) -> Tensor:
        """Features of captions: [Q, C]"""
        return text_features(self.model, Texts(*self.tokenizer(captions))).float()

    def find(
        self, gallery: Gallery, captions: Sequence[str], top: int = 5, approximate: bool = False
    ) -> list[list[tuple[str, float]]]:
        """For each caption the pictures that fit best, with their cosines."""
        if gallery.towers != tower_digest(self.model):
            raise ValueError(
                f"this gallery was made by {gallery.model}, with other weights than {self.name} has now; "
                "make it again with vitrim index"
            )
        scores, numbers = gallery.nearest(self.texts(captions), top, approximate)
        return [
            [(gallery.names[number], score) for number, score in zip(*row, strict=True)]
            for row in zip(numbers.tolist(), scores.tolist(), strict=True)
        ]

    def fitting(self, gallery: Gallery, captions: Sequence[str], top: int = 5) -> tuple[Tensor, Tensor]:
        """For each picture the captions that fit best: cosines and numbers [I, top]"""
        check_positive("predict", "top", top)
        scores = gallery.features @ self.texts(captions).to(gallery.features).T
        numbers = ranked(scores, top)
        return scores.gather(1, numbers), numbers


def open_searcher(name: str | Path, device: str | torch.device = "cpu") -> Searcher:
    """A retrieval run, or "clip:FOLDER" or "blip:FOLDER" as it came, without training."""
    if str(name).startswith(CARRIERS):
        own = "infonce" if str(name).startswith(BLIP) else None  # no queue to search with
        plan = RetrievalPlan(data="", text=str(name), loss=own)
        model, tokenizer = build(plan, [])
    else:
        model, tokenizer, _ = load_retrieval(name)
    return Searcher(model.to(device).eval(), tokenizer, _lasting(str(name)))


def _lasting(name: str) -> str:
    """A name that means the same from another folder."""
    carrier = next((each for each in CARRIERS if name.startswith(each)), "")
    place = Path(name.removeprefix(carrier)).expanduser()
    return f"{carrier}{place.resolve()}" if place.is_dir() else name


def tower_digest(model: RetrievalModel) -> str:
    """What tells two models' features apart: some of every weight, quick for large models."""
    import hashlib

    running = hashlib.sha256(text_digest(model).encode())
    for name, value in sorted(model.towers.state_dict().items()):
        flat = value.detach().flatten()
        some = flat[:: max(1, flat.numel() // 512)].to("cpu", torch.float32).contiguous()
        running.update(f"{name} {tuple(value.shape)}".encode() + some.numpy().tobytes())
    return running.hexdigest()


def _by_graph(features: Tensor, queries: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """faiss's HNSW by inner product."""
    try:
        faiss: Any = import_module("faiss")
    except ImportError:
        raise ImportError('approximate search needs faiss: pip install "vitrim[gallery]"') from None
    index = faiss.IndexHNSWFlat(features.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.add(features.float().numpy())
    scores, numbers = index.search(queries.float().numpy(), top)
    return torch.from_numpy(scores), torch.from_numpy(numbers)
