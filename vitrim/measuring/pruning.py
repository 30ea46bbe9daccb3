"""How many blocks a task needs: leave out the last ones, whose features tell its classes apart no better.

SLS (released code): features of every block's class token, t-SNE to two dimensions, the silhouette of the
classes; from the last block back as long as the silhouette is at least alpha times the last one's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from vitrim.backbones.geometry import has_class_token, prefix_count
from vitrim.backbones.tuned_linear import Tuned
from vitrim.checks import check_one_of, is_number
from vitrim.compose import assemble
from vitrim.measuring.costs import CLASSIFIERS
from vitrim.methods.first_blocks import FirstBlocks
from vitrim.methods.tuners.batchnorm_head import BatchNormHead
from vitrim.methods.tuners.fact import Factors
from vitrim.network.copying import copied
from vitrim.network.method import Method
from vitrim.network.model import StagedViT
from vitrim.video.refusing import refuse_clips

ALPHAS = {"silhouette": 0.3, "probe": 0.95}  # SLS's; ours, of the last block's accuracy above chance
LEAST = 32  # images for t-SNE, whose neighbourhoods hold 30
FOLDS = 4

Images = Iterable[tuple[Tensor, Tensor]]


def prune_layers(
    model: StagedViT, batches: Images, alpha: float | None = None, rule: str = "silhouette"
) -> StagedViT:
    """A copy with only the first blocks, as many as the task needs, and what was tuned in them.

    Train it on afterwards: a cut network needs some epochs to find back (`vitrim.train` with `init`).

    Args:
        batches: training images and their classes.
        alpha: how good a block has to be, as a share of the last one; None: 0.3 by silhouette, 0.95 by probe.
        rule: "silhouette" (SLS: t-SNE and silhouettes) or "probe" (ours: the accuracy of a linear classifier
            on each block's features beyond chance, without t-SNE, in a fraction of the time).

    Raises:
        ValueError: if there are too few images or classes to tell blocks apart.
    """
    check_rule(rule, alpha)
    scores = layer_scores(model, batches, rule)
    return first_blocks(model, kept_blocks(scores, ALPHAS[rule] if alpha is None else alpha))


def check_rule(rule: str, alpha: float | None) -> None:
    check_one_of("prune_layers", "rule", rule, tuple(ALPHAS))
    if alpha is not None and (not is_number(alpha) or not 0 <= alpha <= 1):
        raise ValueError(f"prune_layers: alpha must be from 0 to 1, got {alpha!r}")


def kept_blocks(scores: Sequence[float], alpha: float) -> int:
    """How many leading blocks stay: the walk goes back from the last block and stops before the first that is
    worse than alpha times the last. Where the last one is below zero, nothing is pruned.

    >>> kept_blocks([0.1, 0.05, 0.3, 0.4], alpha=0.3)
    3
    """
    kept = len(scores)
    if scores[-1] < 0:
        return kept
    while kept > 1 and scores[kept - 2] >= alpha * scores[-1]:
        kept -= 1
    return kept


def layer_scores(model: StagedViT, batches: Images, rule: str = "silhouette") -> tuple[float, ...]:
    """How well the features after each block tell the classes apart, by the rules of `prune_layers`."""
    check_rule(rule, None)
    refuse_clips(model, "prune")
    if model.side is not None:
        raise ValueError(
            "prune_layers ranks the tokens behind each block, but this model's head reads a stream beside "
            "them; choose how many blocks to keep by another tuner, and tune the cut backbone: "
            "FirstBlocks(count)"
        )
    features, labels = layer_features(model, batches)
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2 or len(labels) <= len(classes):
        raise ValueError(
            f"{len(labels)} images of {len(classes)} classes do not tell blocks apart; give several images "
            "of at least two classes"
        )
    if rule == "silhouette" and len(labels) < LEAST:
        raise ValueError(f"t-SNE needs {LEAST} images or more, got {len(labels)}; give more, or rule='probe'")
    if rule == "probe" and counts.min() < FOLDS:
        raise ValueError(
            f"rule='probe' needs {FOLDS} images of every class or more, but one has {counts.min()}"
        )
    score = silhouette if rule == "silhouette" else probe_accuracy
    return tuple(score(each, labels) for each in features)


@torch.no_grad()
def layer_features(model: StagedViT, batches: Images) -> tuple[list[np.ndarray], np.ndarray]:
    """For each block [images, D]: the class token, or the mean of the patches where there is none."""
    found: list[list[Tensor]] = [[] for _ in range(model.depth)]
    labels: list[Tensor] = []
    device, training = next(model.parameters()).device, model.training
    model.eval()
    by_class_token = has_class_token(model.vit)
    for images, truths in batches:
        layers = model.forward_intermediates(
            images.to(device), output_fmt="NLC", intermediates_only=True, restore="tokens",
            return_prefix_tokens=prefix_count(model.vit) > 0,
        )  # fmt: skip
        for index, layer in enumerate(layers):
            patches, prefix = layer if isinstance(layer, tuple) else (layer, None)
            token = prefix[:, 0] if by_class_token and prefix is not None else patches.mean(1)
            found[index].append(token.float().cpu())
        labels.append(truths)
    model.train(training)
    if not labels:
        raise ValueError("there are no images to prune by; give batches of training images")
    return [torch.cat(each).numpy() for each in found], torch.cat(labels).numpy()


def silhouette(features: np.ndarray, labels: np.ndarray) -> float:
    """Of the classes, in the plane that t-SNE lays the features out in, each axis from 0 to 1."""
    from sklearn.manifold import TSNE
    from sklearn.metrics import silhouette_score

    plane = TSNE(n_components=2, init="pca", random_state=0).fit_transform(features)
    low, high = plane.min(0), plane.max(0)
    return float(silhouette_score((plane - low) / (high - low), labels))


def probe_accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Of a linear classifier by least squares, on folds it did not see; 0 is chance and 1 perfect."""
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), RidgeClassifier(alpha=float(features.shape[1])))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    accuracy = float(np.mean(cross_val_score(probe, features, labels, cv=folds)))
    chance = float(np.unique(labels, return_counts=True)[1].max() / len(labels))
    return (accuracy - chance) / (1 - chance)


def first_blocks(model: StagedViT, count: int) -> StagedViT:
    """A copy with the first `count` blocks alone, and what stands in them."""
    if count == model.depth:
        return copied(model)
    left = [method.first_blocks(count, model.depth) for method in model.methods]
    stays = [each for each in left if each is not None and not isinstance(each, FirstBlocks)]
    methods: tuple[Method, ...] = (FirstBlocks(count), *stays)
    with torch.random.fork_rng(devices=[]):  # random starts are overwritten at once
        pruned = assemble(_bare(model), model.origin, methods, None)
    values, own = model.state_dict(), pruned.state_dict()
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(values[name][_part(name, value, values[name], model)])
    pruned.classes, pruned.task, pruned.scale = model.classes, model.task, model.scale
    pruned.preprocess = model.preprocess
    return pruned.train(model.training)


def _part(name: str, left: Tensor, whole: Tensor, model: StagedViT) -> tuple[slice, ...]:
    """The part of a weight that belongs to the first blocks: all of it, but of FacT's factors, whose columns
    stand in the order of the blocks."""
    owner = model.get_submodule(name.rpartition(".")[0])
    if left.shape != whole.shape and not isinstance(owner, Factors):
        methods = ", ".join(map(repr, model.methods))
        raise ValueError(
            f"prune_layers: {name} of {methods} reads all blocks at once, so no part belongs to the first "
            "ones; prune with another tuner, or train anew with FirstBlocks"
        )
    return tuple(slice(0, side) for side in left.shape)


def _bare(model: StagedViT) -> torch.nn.Module:
    """A copy of the backbone without what its methods put in place of its layers."""
    whole = copied(model)
    for owner, name, layer in whole.own_layers:
        current = getattr(owner, name)
        if current is not layer:
            shared = {key: value for key, value in current._parameters.items() if key in layer._parameters}
            layer._parameters.update(shared)
            setattr(owner, name, layer)
    for name in CLASSIFIERS:
        head = getattr(whole.vit, name, None)
        if isinstance(head, Tuned):
            setattr(whole.vit, name, head.merged())
    if any(isinstance(method, BatchNormHead) for method in model.methods):
        whole.vit.head_drop = whole.vit.head_drop[0]
    bare: torch.nn.Module = whole.vit
    return bare
