"""What a run is made of: backbone, data, methods and training settings, settled before anything is loaded.

`settle_plan` fills in what was not asked for from the recipe and the defaults; `resume_plan` takes a stored
plan and refuses whatever was asked for differently. The stored form is plain JSON, so a run folder says by
itself what was run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrim.settings.left_open import AUTO, CAN_BE_OPEN, asked_open, for_epochs
from vitrim.settings.protocols import find_protocol, values_for
from vitrim.settings.protocols.task_values import training_part
from vitrim.settings.training import Training
from vitrim.video.settings import Video, as_video

if TYPE_CHECKING:
    from vitrim.network.method import Method
    from vitrim.network.model import StagedViT
    from vitrim.settings.recipes import Recipe

DEFAULT_MODEL = "vitrim_tiny_patch8_96"
DEFAULT_DATA = "digits"
DEFAULT_RECIPE = "sparse-tuning"
PATH_KINDS = ("folder:", "csv:", "fewshot:folder:")
DEFAULTS: dict[str, Any] = {
    "model": DEFAULT_MODEL,
    "pretrained": False,
    "weights": None,
    "image_size": None,
    "in_chans": None,
    "video": None,
    "patch_size": None,
    "data": DEFAULT_DATA,
    "root": None,
    "recipe": None,
    "protocol": None,
    "per_task": False,
    "init": None,
}


@dataclass(frozen=True)
class RunPlan:
    """Everything that decides the outcome of a run, as text and numbers."""

    model: str
    pretrained: bool
    weights: str | None
    image_size: tuple[int, int] | None
    data: str
    root: str | None
    recipe: str | None
    methods: tuple[str, ...]
    training: Training
    protocol: str | None = None
    """the published protocol that `training` starts from: named by the user, or the recipe's own"""
    per_task: bool = False
    """whether the protocol's values for this task were put in"""
    init: str | None = None
    """the finished run whose weights are the first ones"""
    in_chans: int | None = None
    """channels of the images, if not what the backbone takes"""
    video: str | None = None
    """of clips, how their frames become one answer; None of images"""
    patch_size: tuple[int, int] | None = None
    """pixels of a patch, if not the backbone's own"""
    left_open: tuple[str, ...] = ()
    """settings of `training` that the number of images has yet to decide; see `left_open.py`"""
    given: frozenset[str] = frozenset()
    """settings of `training` that were asked for, while some are left open"""

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "pretrained": self.pretrained,
            "weights": self.weights,
            "image_size": list(self.image_size) if self.image_size else None,
            "data": self.data,
            "root": self.root,
            "recipe": self.recipe,
            "methods": list(self.methods),
            "protocol": self.protocol,
            "per_task": self.per_task,
            "init": self.init,
            **({} if self.in_chans is None else {"in_chans": self.in_chans}),
            **({} if self.video is None else {"video": self.video}),
            **({} if self.patch_size is None else {"patch_size": list(self.patch_size)}),
            "training": self.training.to_json(),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> RunPlan:
        size, patch = stored["image_size"], stored.get("patch_size")
        return cls(
            model=stored["model"],
            pretrained=stored["pretrained"],
            weights=stored["weights"],
            image_size=(size[0], size[1]) if size else None,
            data=stored["data"],
            root=stored["root"],
            recipe=stored["recipe"],
            methods=tuple(stored["methods"]),
            protocol=stored["protocol"],
            per_task=stored["per_task"],
            init=stored.get("init"),
            in_chans=stored.get("in_chans"),
            video=stored.get("video"),
            patch_size=(patch[0], patch[1]) if patch else None,
            training=Training().changed(stored["training"]),
        )


@dataclass(frozen=True)
class Asked:
    """What the caller asked for; None everywhere means: not asked, take the default."""

    model: str | None = None
    pretrained: bool | None = None
    weights: str | Path | None = None
    image_size: int | tuple[int, int] | None = None
    data: str | None = None
    root: str | Path | None = None
    recipe: str | None = None
    methods: Sequence[str | Method] | None = None
    protocol: str | None = None
    per_task: bool | None = None
    training: Training | Mapping[str, object] | None = None
    init: str | Path | None = None
    in_chans: int | None = None
    video: Video | str | None = None
    patch_size: int | tuple[int, int] | None = None

    def settings(self) -> dict[str, Any]:
        """The settings asked for outside training, in the form a plan stores."""
        size, patch = self.image_size, self.patch_size
        values = {
            "model": self.model,
            "pretrained": self.pretrained,
            "weights": None if self.weights is None else str(Path(self.weights).resolve()),
            "image_size": (size, size) if isinstance(size, int) else size,
            "data": self.data,
            "root": None if self.root is None else str(Path(self.root).resolve()),
            "recipe": self.recipe,
            "methods": None if self.methods is None else method_texts(self.methods),
            "protocol": self.protocol,
            "per_task": self.per_task,
            "init": None if self.init is None else str(Path(self.init).resolve()),
            "in_chans": self.in_chans,
            "video": None if self.video is None else repr(as_video(self.video)),
            "patch_size": (patch, patch) if isinstance(patch, int) else patch,
        }
        return {name: value for name, value in values.items() if value is not None}

    def training_changes(self) -> dict[str, object]:
        if isinstance(self.training, Training):
            changes = self.training.to_json()
        else:
            changes = {name: value for name, value in (self.training or {}).items() if value != AUTO}
        teacher = changes.get("teacher")
        if isinstance(teacher, str | Path) and teacher:
            changes["teacher"] = str(Path(teacher).resolve())  # so that a resumed run finds it from anywhere
        return changes

    def automatic(self) -> tuple[str, ...]:
        """The training settings that were asked to be chosen."""
        return () if isinstance(self.training, Training) else asked_open(self.training or {})

    def left_open(self) -> tuple[str, ...]:
        """The training settings that the number of images will decide: those of a published protocol are
        kept where it was asked for by name.
        """
        if isinstance(self.training, Training):
            return ()
        given, asked = self.training_changes(), self.automatic()
        found = asked if self.protocol is not None else CAN_BE_OPEN
        return tuple(name for name in found if name not in given)


def settle_plan(asked: Asked) -> RunPlan:
    """Fill in what was not asked for."""
    if asked.recipe is not None and asked.methods is not None:
        raise ValueError(
            f"recipe {asked.recipe!r} brings its own methods, so methods cannot be given as well; choose one"
        )
    if asked.per_task is not None and asked.protocol is None:
        raise ValueError("per_task is about the values of a protocol for single tasks; give protocol as well")
    settings = {**DEFAULTS, **asked.settings()}
    if settings["root"] is None and settings["data"].startswith(PATH_KINDS):
        settings["root"] = str(Path.cwd())  # a relative path is found again from anywhere
    training, own = Training(), {}
    if asked.protocol is not None:
        protocol = find_protocol(asked.protocol)
        settings["per_task"] = asked.per_task is not False
        own = values_for(protocol, settings["data"]) if settings["per_task"] else {}
        training = protocol.training.changed(training_part(own))
    if "methods" not in settings:
        recipe = recipe_named(settings["recipe"] or DEFAULT_RECIPE, own)
        settings["recipe"] = settings["recipe"] or DEFAULT_RECIPE
        settings["methods"] = method_texts(recipe.methods)
        if settings["video"] is None and recipe.video is not None:
            settings["video"] = repr(recipe.video)
        if asked.protocol is None:
            settings["protocol"], training = recipe.protocol, recipe.training
    changes, left_open = asked.training_changes(), asked.left_open()
    if asked.protocol is None:
        changes = {**for_epochs(training, changes.get("epochs"), changes), **changes}
    given = frozenset(changes) if left_open else frozenset()
    return RunPlan(**settings, training=training.changed(changes), left_open=left_open, given=given)


def compose_asked(asked: Asked, num_classes: int | None = None) -> StagedViT:
    """The model asked for, to look at rather than to train."""
    from vitrim.compose import compose

    plan = settle_plan(asked)
    return compose(
        plan.model,
        *plan.methods,
        num_classes=num_classes,
        pretrained=plan.pretrained,
        image_size=plan.image_size,
        weights=plan.weights,
        in_chans=plan.in_chans,
        video=plan.video,
        patch_size=plan.patch_size,
    )


def resume_plan(stored: RunPlan, asked: Asked) -> RunPlan:
    """The stored plan, unless something else was asked for: then a sentence naming the setting."""
    asked.automatic()
    Training().changed(asked.training_changes())  # a misspelt or impossible setting gets its own sentence
    before = {name: getattr(stored, name) for name in stored.__dataclass_fields__} | stored.training.to_json()
    for name, value in {**asked.settings(), **asked.training_changes()}.items():
        if before[name] != value:
            raise ValueError(
                f"this run was started with {name}={before[name]!r}, so it cannot be resumed with {value!r}; "
                f"leave {name} out to resume, or start a new run in another folder"
            )
    return stored


def recipe_named(text: str, usual: Mapping[str, object] | None = None) -> Recipe:
    """A recipe by its name, or a changed form of it such as "sparse-tuning(width=32)"; `usual` as there."""
    from vitrim.settings.recipes import find_recipe

    return find_recipe(text, usual)


def method_texts(methods: Sequence[str | Method]) -> tuple[str, ...]:
    """Methods in the one notation, whichever form they came in."""
    from vitrim.methods.notation import parse_method

    if isinstance(methods, str):
        raise ValueError(f"methods must be a list of methods, got the text {methods!r}; write [{methods!r}]")
    return tuple(repr(parse_method(method) if isinstance(method, str) else method) for method in methods)
