"""The optimiser that training settings describe: torch's own, over groups that share a rate and a decay."""

from __future__ import annotations

from collections import defaultdict

import torch
from timm.models import group_parameters
from torch import nn

from vitrim.network.model import StagedViT
from vitrim.settings.training import Training


def make_optimizer(model: StagedViT, training: Training) -> torch.optim.Optimizer:
    """torch's optimiser over what trains. Each group keeps its multiple of the learning rate under "scale",
    and whether it rests during `frozen_epochs` under "rests".
    """
    return optimizer_over(parameter_groups(model, training), training)


def optimizer_over(groups: list[dict[str, object]], training: Training) -> torch.optim.Optimizer:
    """torch's optimiser over such groups."""
    if training.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=training.peak, momentum=training.momentum)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[training.optimizer]
    return kind(groups, lr=training.peak)


def set_rates(optimizer: torch.optim.Optimizer, training: Training, progress: float) -> None:
    """Give every group its learning rate after `progress` epochs."""
    rate = training.learning_rate(progress)
    for group in optimizer.param_groups:
        resting = group["rests"] and progress < training.frozen_epochs
        group["lr"] = 0.0 if resting else rate * group["scale"]


def parameter_groups(model: StagedViT, training: Training) -> list[dict[str, object]]:
    """What trains, by multiple of the rate, weight decay and rest."""
    trained = model.trained()
    scales = _scales(model, training)
    own = _parts(model)["backbone"] if training.frozen_epochs else frozenset()
    if training.frozen_epochs and not own:
        raise ValueError(
            "frozen_epochs lets the backbone's own weights rest, but with these methods none of them trains; "
            "leave it out"
        )
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in trained.items():
        plain = training.decayed == "matrices" and parameter.ndim <= 1
        decay = 0.0 if plain else training.weight_decay
        groups[scales[name], decay, name in own].append(parameter)
    return [
        {"params": members, "scale": scale, "weight_decay": decay, "rests": rests}
        for (scale, decay, rests), members in groups.items()
    ]


def _scales(model: StagedViT, training: Training) -> dict[str, float]:
    """The multiple of the learning rate of everything that trains, by name."""
    scales = _decayed_by_layer(model, training.layer_decay)
    parts = _parts(model)
    for part, factor in (training.rates or {}).items():
        members = parts[part] if part in parts else {name for name in scales if part in name}
        if not members:
            raise ValueError(
                f"rates names {part!r}, but nothing that trains is called so; "
                f"use head, backbone or part of a name such as {next(iter(scales))}"
            )
        for name in members:
            scales[name] *= factor
    return scales


def _parts(model: StagedViT) -> dict[str, frozenset[str]]:
    """The names of trained parameters in the classifier, and of those that are the backbone's own."""
    head = model.vit.get_classifier()
    layers = head if isinstance(head, tuple) else (head,)
    in_head = {id(parameter) for layer in layers for parameter in layer.parameters()}
    trained = model.trained()
    classifier = frozenset(name for name, parameter in trained.items() if id(parameter) in in_head)
    return {"head": classifier, "backbone": frozenset(set(trained) & model.base_names - classifier)}


def _decayed_by_layer(model: StagedViT, decay: float | None) -> dict[str, float]:
    """1 for the head and what lies outside the blocks, less for every block further from it, by timm's order
    of layers.
    """
    trained = model.trained()
    if decay is None:
        return dict.fromkeys(trained, 1.0)
    layers = group_parameters(model.vit, model.vit.group_matcher(coarse=False), reverse=True)
    blocks = {name.split(".")[1]: layer for name, layer in layers.items() if name.startswith("blocks.")}
    deepest = max(layers.values())
    found = {}
    for name in trained:
        kind, rest = name.split(".", 1)
        layer = layers.get(rest, deepest) if kind == "vit" else deepest
        if kind == "stages":
            layer = blocks[rest.split(".")[0]]
        found[name] = decay ** (deepest - layer)
    return found
