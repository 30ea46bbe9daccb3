"""Start from what a finished run learned: a new run, with a schedule of its own, on those weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from vitrim.backbones.opening import digest
from vitrim.files.saving import changed_names, read, saved_tensors
from vitrim.methods.quantising.packing import unpack_tensors
from vitrim.network.model import StagedViT
from vitrim.runs.folder import RunFolder, stored_plan
from vitrim.settings.run_plan import Asked, RunPlan, method_texts, recipe_named
from vitrim.training.checkpoint import fill_weights
from vitrim.training.fitting import adopt

TAKEN = (
    "model", "pretrained", "weights", "image_size", "in_chans", "patch_size", "video", "recipe", "methods",
)  # fmt: skip
SEEN_ALIKE = (
    "normalise",
    "interpolation",
    "test_crop",
    "head",
    "full_scale",
    "mean",
    "std",
)  # what the weights were trained to see


def asked_from(asked: Asked) -> Asked:
    """What was asked for, with model and methods of the run it starts from; data too, if none is given."""
    stored = stored_plan(asked.init)
    for name in TAKEN:
        given = getattr(asked, name)
        if given is not None and not (name == "model" and given == stored.model):
            raise ValueError(
                f"init takes {name} from the run {asked.init}; leave {name} out, or leave init out"
            )
    named = stored.recipe is not None and method_texts(recipe_named(stored.recipe).methods) == stored.methods
    same = {name: getattr(stored.training, name) for name in SEEN_ALIKE} if asked.protocol is None else {}
    if isinstance(asked.training, Mapping) and "normalise" in asked.training:
        same = {name: value for name, value in same.items() if name not in ("mean", "std")}
    training = asked.training if not isinstance(asked.training, Mapping | None) else {
        **same, **(asked.training or {})
    }  # fmt: skip
    return replace(
        asked,
        model=stored.model,
        pretrained=stored.pretrained or None,
        weights=stored.weights,
        image_size=stored.image_size,
        in_chans=stored.in_chans,
        video=stored.video,
        patch_size=stored.patch_size,
        recipe=stored.recipe if named else None,
        methods=None if named else stored.methods,
        data=asked.data or stored.data,
        root=asked.root if asked.data or asked.root else stored.root,
        training=training,
    )


def take_weights(model: StagedViT, plan: RunPlan) -> dict[str, Any]:
    """Put the weights of the run a plan starts from into its fresh model; what run.json says about it."""
    folder = RunFolder.open(str(plan.init))
    if not folder.model_file.is_file():
        raise FileNotFoundError(
            f"{plan.init} has no model yet; let it finish first: --resume --out {plan.init}"
        )
    about, stored = read(folder.model_file)
    adopt(model, about["methods"], {})
    if digest(model.vit, changed_names(model)) != about["backbone"]["digest"]:
        raise ValueError(f"{plan.init} was trained on other backbone weights than {plan.model} has here")
    kept = about["classes"] is not None and tuple(about["classes"]) == model.classes
    left = set() if kept else head_names(model)  # a packed classifier of other classes does not unpack
    trained = set(saved_tensors(model)) - left  # a file may hold the frozen backbone as well
    tensors = unpack_tensors(model, {name: value for name, value in stored.items() if name in trained})
    if not kept:
        own = saved_tensors(model)
        tensors |= {name: own[name] for name in head_names(model) if name in own}
    fill_weights(model, tensors)
    return {
        "run": str(plan.init),
        "digest": sha256(folder.model_file.read_bytes()).hexdigest(),
        "classifier": "kept" if kept else "new",
    }


def head_names(model: StagedViT) -> set[str]:
    head = model.vit.get_classifier()
    layers = head if isinstance(head, tuple) else (head,)
    inside = {id(parameter) for layer in layers for parameter in layer.parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) in inside}


def warm_start(plan: RunPlan, model: StagedViT, begun: Path | None) -> dict[str, Any] | None:
    """Start from the plan's run, if it names one; refused where that run changed since this one `begun`. A
    run with a checkpoint of its own goes on from there.
    """
    if plan.init is None:
        return None
    if begun is not None and RunFolder(begun).last_checkpoint() is not None:
        return None
    found = take_weights(model, plan)
    if begun is not None and RunFolder(begun).record().get("init") != found:
        raise ValueError(
            f"{plan.init} changed since this run began from it; start a new run in another folder"
        )
    return found
