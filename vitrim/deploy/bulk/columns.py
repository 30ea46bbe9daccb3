"""The columns of a table of predictions: what a model's outputs become, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vitrim.network.model import StagedViT
from vitrim.runs.kinds import KINDS
from vitrim.runs.kinds.kind import output_names

if TYPE_CHECKING:
    from pyarrow import Schema, Table

LISTS = {"multilabel": ("labels", "probabilities"), "regress": ("targets", "values")}


def table_schema(model: StagedViT, top: int | None, width: int | None) -> Schema:
    """Place in the list, path, what is said of it, and an embedding where `width` says how long it is."""
    import pyarrow as arrow

    fields = [("index", arrow.int64()), ("path", arrow.string())]
    texts, numbers = arrow.list_(arrow.string()), arrow.list_(arrow.float32())
    if top is not None and model.task == "classify":
        fields += [("class", arrow.string()), ("probability", arrow.float32())]
        fields += [("classes", texts), ("probabilities", numbers)] if top > 1 else []
    elif top is not None:
        names, values = LISTS[model.task]
        fields += [(names, texts), (values, numbers)]
    if width is not None:
        fields.append(("embedding", arrow.list_(arrow.float32(), width)))
    return arrow.schema(fields)


def batch_table(
    model: StagedViT,
    schema: Schema,
    top: int | None,
    places: Sequence[int],
    paths: Sequence[str],
    outputs: Tensor | None,
    embeddings: Tensor | None,
) -> Table:
    """The rows of one batch: outputs [B, classes], embeddings [B, D]."""
    import pyarrow as arrow

    columns: list[Any] = [list(places), [utf8(path) for path in paths]]
    if top is not None and outputs is not None:
        names = output_names(model)
        found = _most_probable if model.task == "classify" else _shown
        columns += found(model, names, outputs, top)
    if embeddings is not None:
        flat = arrow.array(embeddings.float().flatten().cpu().numpy())
        columns.append(arrow.FixedSizeListArray.from_arrays(flat, embeddings.shape[1]))
    return arrow.table(columns, schema)


def _most_probable(model: StagedViT, names: Sequence[str], outputs: Tensor, top: int) -> list[Any]:
    import pyarrow as arrow

    best, classes = outputs.float().softmax(1).topk(top)  # [B, top]
    shares = arrow.array(best.flatten().cpu().numpy())
    called = arrow.array(names).take(arrow.array(classes.flatten().cpu().numpy()))
    ends = arrow.array(range(0, best.numel() + 1, top), arrow.int32())
    firsts = arrow.array(range(0, best.numel(), top))
    lists = [arrow.ListArray.from_arrays(ends, called), arrow.ListArray.from_arrays(ends, shares)]
    return [called.take(firsts), shares.take(firsts), *(lists if top > 1 else [])]


def _shown(model: StagedViT, names: tuple[str, ...], outputs: Tensor, top: int) -> list[Any]:
    """Of several labels or targets, as many as `vitrim predict` shows."""
    answers = KINDS[model.task].answers(model, outputs).tolist()
    rows = [KINDS[model.task].shown(names, answer, top) for answer in answers]
    return [[[name for name, _ in row] for row in rows], [[value for _, value in row] for row in rows]]


def utf8(path: str) -> str:
    """A path as text, with the bytes that are none written as \\xff."""
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace")
