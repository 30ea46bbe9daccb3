"""The model of a bulk prediction, named well enough that other processes and machines open the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from vitrim.compose import compose, merge
from vitrim.deploy.exported import ExportedModel, open_answering
from vitrim.methods.notation import parse_method
from vitrim.network.budgeting import take_budget
from vitrim.network.model import StagedViT
from vitrim.video.refusing import refuse_clips


@dataclass(frozen=True)
class Opening:
    """A run, a saved model or an exported file; or, with `model`, a composition without a classifier.

    `budgeted` are the texts of a run's methods under another budget, with what was found on images for it.
    """

    run: str | None = None
    model: str | None = None
    methods: tuple[str, ...] = ()
    weights: str | None = None
    pretrained: bool = False
    image_size: int | tuple[int, int] | None = None
    trust: bool = False
    budgeted: tuple[str, ...] | None = None

    @property
    def called(self) -> str:
        return str(self.run or self.model)

    def open(self) -> StagedViT:
        """The model, in evaluation mode."""
        if self.model is not None:
            model = compose(
                self.model,
                *self.methods,
                num_classes=0,
                pretrained=self.pretrained,
                image_size=self.image_size,
                weights=self.weights,
            )
            if model.origin.kind == "random":
                raise ValueError(
                    f"{self.model} would start from random weights, whose embeddings say nothing; give "
                    "--weights FILE or --pretrained"
                )
            return model.eval()
        model = open_answering(str(self.run), self.trust, self.image_size)
        refuse_clips(model, "bulk")
        if self.budgeted is not None:
            take_budget(model, [parse_method(text) for text in self.budgeted])
        return model


def digest_of(source: Opening | StagedViT, model: StagedViT) -> str:
    """SHA-256 over all that decides what a model says of an image."""
    if isinstance(source, Opening) and isinstance(model, ExportedModel):
        with Path(str(source.run)).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    running = hashlib.sha256()
    said = [model.methods, model.task, model.scale, model.classes, model.num_classes, model.preprocess]
    running.update(repr(said).encode())
    for name, value in sorted(model.state_dict().items()):
        running.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        running.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return running.hexdigest()


def folded(model: StagedViT) -> StagedViT:
    """A copy with all folded that folds: what is said of images is the same, and sooner."""
    return model if isinstance(model, ExportedModel) else merge(model)
