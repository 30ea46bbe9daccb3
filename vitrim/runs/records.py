"""What run.json may say, with bounds; the files beside it are in `beside.py`.

Only what is read somewhere is typed; every key may be missing here, since earlier versions wrote fewer, and
`lacking` names those without which a run cannot be resumed, shown or put into a table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, create_model, model_validator

from vitrim.bounds import (
    MOST_IMAGES,
    Count,
    Epoch,
    Format,
    Images,
    Loss,
    Methods,
    Name,
    Names,
    NotNegative,
    Open,
    Positive,
    Share,
    Size,
    Text,
)  # fmt: skip
from vitrim.settings.task_kinds import kind_of
from vitrim.settings.training import Training

NEEDED_ROW = (
    "status", "settings.model", "settings.image_size", "settings.recipe", "settings.methods",
    "settings.training.seed", "settings.training.select", "data.spec", "data.notes", "preprocess",
    "costs.gmacs", "costs.gmacs_paper", "costs.trained_parameters",
)  # fmt: skip
"""what a line of a table is made of"""
NEEDED_RESUMED = (
    *NEEDED_ROW, "settings.pretrained", "settings.weights", "settings.data", "settings.root",
    "settings.training.epochs", "settings.training.train_split", "data.classes", "data.images",
    "backbone.kind", "costs.tokens", "costs.plain.gmacs", "costs.plain.total_parameters", "versions",
    "machine.cpu", "machine.threads",
)  # fmt: skip
NEEDED_SHOWN = (
    *NEEDED_RESUMED, "results.split", "results.epoch", "results.select", "results.images",
    "seconds_per_epoch", "model_bytes",
)  # fmt: skip
BESIDE = {"top1": "mean_per_class", "map": "f1", "r2": "mae", "miou": "macc"}
"""the figure that is shown with the main one of each kind of task"""


PerBlock = Annotated[list[Count], Field(max_length=10_000)]


class Named(Open):
    name: Name
    FORMAT: ClassVar[int] = 1


class Part(Named):
    """The figures of one class, label or target; None where they are not defined."""

    f1: Share | None = None
    r2: FiniteFloat | None = None
    accuracy: Share | None = None
    precision: Share | None = None
    recall: Share | None = None
    average_precision: Share | None = None
    images: Count = 0

    @model_validator(mode="after")
    def has_its_figure(self) -> Part:
        if not {"f1", "r2"} & self.model_fields_set:
            raise ValueError("it should have f1 or r2")
        return self


class Region(Named):
    """The figures of one class of pixels; None where they are not defined."""

    iou: Share | None = None
    accuracy: Share | None = None
    boundary_iou: Share | None = None
    pixels: Count = 0


class Results(Open):
    split: Name = ""
    epoch: Epoch | None = None
    select: Name = ""
    mark: Name | None = None
    images: Annotated[int, Field(ge=1, le=MOST_IMAGES)] = 1
    loss: Loss = 0.0
    top1: Share = 0.0
    top5: Share | None = None
    views: list[Share] = []
    unreadable: list[Text] = []
    mean_per_class: Share = 0.0
    map: Share | None = None
    f1: Share | None = None
    f1_macro: Share | None = None
    mae: FiniteFloat = 0.0
    r2: FiniteFloat | None = None
    miou: Share | None = None
    macc: Share | None = None
    aacc: Share | None = None
    boundary_iou: Share | None = None
    agreement: Share | None = None
    miou_unreduced: Share | None = None
    relative_miou: NotNegative | None = None
    per_region: list[Region] | None = None
    per_class: list[Part] | None = None
    per_label: list[Part] | None = None
    per_target: list[Part] | None = None
    confusion: list[list[Images]] | None = None

    @model_validator(mode="after")
    def belongs_together(self) -> Results:
        """A table as large as its list of classes."""
        count = len(self.per_class or ())
        if self.confusion and {len(self.confusion), *map(len, self.confusion)} != {count}:
            raise ValueError(f"the confusion table does not fit {count} classes")
        return self


class Data(Open):
    spec: Text = ""
    task: Name = "classify"
    classes: Names = []
    images: dict[Name, Images] = {}
    called: Name = "images"
    notes: list[Text] = []


class Plain(Open):
    gmacs: Positive = 1.0
    gmacs_paper: NotNegative = 0.0
    total_parameters: Annotated[int, Field(ge=1, le=2**53)] = 1
    tokens: PerBlock = []
    blocks: PerBlock = []


class Folded(Open):
    gmacs: NotNegative = 0.0
    total_parameters: Count = 0
    blocks: PerBlock = []


class Costs(Open):
    gmacs: NotNegative = 0.0
    gmacs_paper: NotNegative = 0.0
    trained_parameters: Count = 0
    trained_head: Count | None = None
    trained_pooling: Count = 0
    frames: Count | None = None
    total_parameters: Count = 0
    tokens: PerBlock = []
    blocks: PerBlock = []
    by_image: bool = False
    folded: Folded | None = None
    plain: Plain = Plain()


Numbers = Annotated[list[FiniteFloat], Field(min_length=1, max_length=1024)]


class Preprocess(Open):
    image_size: Size | None = None
    mean: Numbers | None = None
    std: Numbers | None = None


class Deviation(Open):
    setting: Name
    protocol: Any
    yours: Any


class Protocol(Named):
    follows: Text = ""
    deviations: list[Deviation]


class Backbone(Open):
    name: Text = ""
    kind: Name = ""


class Machine(Open):
    cpu: Text = ""
    gpu: Text = ""
    threads: Count = 1


class Speed(Named):
    ratio: NotNegative
    quartiles: Annotated[list[NotNegative], Field(min_length=2, max_length=2)]
    batch_size: Count


class Settings(Open):
    model: Text = ""
    pretrained: bool = False
    weights: Text | None = None
    image_size: Size | None = None
    in_chans: Annotated[int, Field(ge=1, le=1024)] | None = None
    patch_size: Size | None = None
    data: Text = ""
    root: Text | None = None
    recipe: Text | None = None
    methods: Methods = []
    protocol: Name | None = None
    per_task: bool = False
    init: Text | None = None
    video: Text | None = None
    training: Any = None
    """typed in `record_schema`"""


class Record(Open):
    """run.json."""

    FORMAT: ClassVar[int] = 1
    format: Format = 1
    status: Name = ""
    settings: Settings = Settings()
    plugins: dict[Name, Text] | None = None
    chosen: dict[Name, Text] = {}
    init: dict[Name, Any] | None = None
    protocol: Protocol | None = None
    select: Name | None = None
    data: Data = Data()
    preprocess: Preprocess = Preprocess()
    backbone: Backbone = Backbone()
    costs: Costs = Costs()
    chosen_methods: Methods | None = None
    versions: dict[Name, Text] = {}
    machine: Machine = Machine()
    results: Results | None = None
    seconds_per_epoch: NotNegative = 0.0
    model_bytes: Count = 0
    speed: list[Speed] = []


BOUNDED: dict[str, Any] = {
    "epochs": Epoch, "cooldown_epochs": Epoch, "frozen_epochs": Epoch, "patience": Epoch | None,
    "batch_size": Images, "accumulate": Images, "workers": Annotated[int, Field(ge=0, le=1024)] | None,
    "bad_images": Images, "lr_batch": Images | None, "policy": Annotated[str, Field(max_length=200)],
    "mean": Numbers | None, "std": Numbers | None,
}  # fmt: skip


@cache
def training_schema() -> type[BaseModel]:
    """The training settings, typed as `Training` types them: there is one list of them."""
    hints = get_type_hints(Training)
    fields: dict[str, Any] = {
        field.name: (BOUNDED.get(field.name, hints[field.name]), field.default)
        for field in dataclasses.fields(Training)
    }
    config = ConfigDict(extra="ignore", allow_inf_nan=False)
    return create_model("TrainingSettings", __config__=config, **fields)


@cache
def record_schema() -> type[Record]:
    """run.json with its training settings."""
    settings = create_model("Settings", __base__=Settings, training=(training_schema(), training_schema()()))
    return create_model("Record", __base__=Record, settings=(settings, settings()))


def lacking(record: Mapping[str, Any], needed: tuple[str, ...]) -> str | None:
    """The first thing a record lacks of what is needed."""
    for path in needed:
        if not _has(record, path):
            return path
    if needed is NEEDED_SHOWN:
        kind = kind_of(record["results"])
        if kind is None or BESIDE[kind.figure] not in record["results"]:
            return "results.top1" if kind is None else f"results.{BESIDE[kind.figure]}"
        if record.get("protocol") is not None and not _has(record, "protocol.follows"):
            return "protocol.follows"
    if needed is NEEDED_ROW and record["status"] == "finished" and not _has(record, "results.split"):
        return "results.split"
    return None


def _has(record: Mapping[str, Any], path: str) -> bool:
    value: Any = record
    for key in path.split("."):
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return True
