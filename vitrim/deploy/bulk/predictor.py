"""A model that turns the images of parts into tables, reading ahead in other processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vitrim.data.images import ImageError
from vitrim.data.transforms import ImageTransform, eval_transform
from vitrim.deploy.bulk.asked import Pace
from vitrim.deploy.bulk.columns import batch_table, table_schema, utf8
from vitrim.deploy.bulk.job import Job
from vitrim.network.model import StagedViT

if TYPE_CHECKING:
    from pyarrow import Table

    from vitrim.data.source import Reader


class Item(NamedTuple):
    """An image that is to be read."""

    part: int
    place: int
    """in the list"""
    name: str


class Batch(NamedTuple):
    """Images of one part: those that could be read, stacked, and why the others could not."""

    part: int
    good: list[Item]
    pixels: Tensor | None
    """[B, channels, height, width], None where no image could be read"""
    bad: list[tuple[Item, str]]
    last: bool
    """of its part"""


class Images(Dataset[tuple[Item, "Tensor | str"]]):
    """Reads whatever item it is asked for: the pixels, or the reason why there are none."""

    def __init__(self, read: Reader, transform: ImageTransform) -> None:
        self.read = read
        self.transform = transform

    def __getitem__(self, item: Item) -> tuple[Item, Tensor | str]:
        try:
            return item, self.transform(self.read(item.name, *self.transform.wants))
        except ImageError as error:
            return item, str(error)


@dataclass
class PartBatches:
    """Which items are read together: never those of two parts, so that a part that is predicted anew meets
    the model in the same batches. Names come from the list as they are needed."""

    job: Job
    parts: Iterable[int]
    batch_size: int

    def __iter__(self) -> Iterator[list[Item]]:
        for part, names in self.job.images(self.parts):
            items = [Item(part, self.job.first(part) + place, name) for place, name in enumerate(names)]
            for start in range(0, len(items), self.batch_size):
                yield items[start : start + self.batch_size]


def _stack(job: Job, found: list[tuple[Item, Tensor | str]]) -> Batch:
    pixels = [outcome for _, outcome in found if isinstance(outcome, Tensor)]
    final = found[-1][0]
    return Batch(
        final.part,
        [item for item, outcome in found if isinstance(outcome, Tensor)],
        torch.stack(pixels) if pixels else None,
        [(item, outcome) for item, outcome in found if isinstance(outcome, str)],
        final.place == job.first(final.part) + job.size(final.part) - 1,
    )


@dataclass
class Predictor:
    """A model on its device, and the columns it fills."""

    model: StagedViT
    top: int | None
    embeddings: bool
    device: torch.device
    pace: Pace
    width: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.model.to(self.device).eval()
        height, width = self.model.preprocess.image_size
        blank = torch.zeros(1, self.model.preprocess.channels, height, width, device=self.device)
        self.width = self._outputs(blank)[1].shape[1] if self.embeddings else None
        self.schema = table_schema(self.model, self.top, self.width)

    def tables(
        self, job: Job, read: Reader, parts: Iterable[int]
    ) -> Iterator[tuple[int, int, Table | None, list[dict[str, Any]]]]:
        """For each batch: its part, how many images it had, and, once the part is whole, its table and what
        could not be read of it."""
        rows: list[Table] = []
        broken: list[dict[str, Any]] = []
        for batch in self._batches(job, read, parts):
            broken += [{"index": item.place, "path": utf8(item.name), "reason": utf8(why)}
                       for item, why in batch.bad]  # fmt: skip
            if batch.pixels is not None:
                rows.append(self._rows(batch.good, batch.pixels))
            whole = self._whole(job, batch.part, rows, broken) if batch.last else None
            yield batch.part, len(batch.good) + len(batch.bad), whole, broken
            if batch.last:
                rows, broken = [], []

    def _batches(self, job: Job, read: Reader, parts: Iterable[int]) -> Iterable[Batch]:
        processes = self.pace.reading_processes(self.device)
        return DataLoader(
            Images(read, eval_transform(self.model.preprocess)),
            batch_sampler=PartBatches(job, parts, self.pace.batch_size),  # type: ignore[arg-type]
            collate_fn=partial(_stack, job),
            num_workers=processes,
            pin_memory=self.device.type == "cuda",
        )

    def _whole(self, job: Job, part: int, rows: list[Table], broken: list[dict[str, Any]]) -> Table:
        import pyarrow as arrow

        if not rows and job.size(part) > 1 and not self.pace.skip_broken:
            first, last = broken[0], broken[-1]
            raise ImageError(
                f"none of the images {first['index']:,} to {last['index']:,} can be read; the first: "
                f"{first['reason']}. Once they can, the same command goes on; with --skip_broken "
                "(skip_broken=True) it goes on past them"
            )
        return arrow.concat_tables(rows).combine_chunks() if rows else self.schema.empty_table()

    def _rows(self, items: list[Item], pixels: Tensor) -> Table:
        outputs, embeddings = self._outputs(pixels.to(self.device, non_blocking=True))
        places, names = [item.place for item in items], [item.name for item in items]
        kept = embeddings if self.embeddings else None
        return batch_table(self.model, self.schema, self.top, places, names, outputs, kept)

    @torch.inference_mode()
    def _outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and what is an embedding; without a classifier both are what the model gives."""
        if not self.embeddings or self.model.num_classes == 0:
            outputs = self.model(images)
            return outputs, outputs
        embeddings, logits = self.model.features_and_logits(images)
        return logits, embeddings
