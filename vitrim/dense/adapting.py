"""Training of what methods added to an open vocabulary's backbone: without labels (P1) and with (P2)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitrim.checks import check_positive
from vitrim.dense.classes import IGNORE
from vitrim.dense.openvocab import OpenVocabulary
from vitrim.network.model import StagedViT


def match_unreduced(
    model: OpenVocabulary, batches: Iterable[Tensor], lr: float = 1e-4, epochs: int = 1
) -> list[float]:
    """P1: train what the methods of `model.clip` added, so that restored cells match those of the same model
    without its reducers, as it is now: one minus the cosine of features, plus the divergence between the
    shares of the vocabulary. No labels are read. The loss of every step."""
    check_positive("match_unreduced", "epochs", epochs)
    unreduced = without_reducers(model)
    weights = adapters_of(model.clip)
    optimizer = torch.optim.AdamW(weights, lr=lr)
    losses = []
    model.clip.train()
    for _ in range(epochs):
        for images in batches:
            with torch.no_grad():
                wanted = unreduced.features(images)
                shares = (model.vocabulary.scale * model.vocabulary.similarities(wanted)).log_softmax(1)
            found = model.features(images)
            told = (model.vocabulary.scale * model.vocabulary.similarities(found)).log_softmax(1)
            apart = 1 - F.cosine_similarity(found, wanted, dim=1).mean()
            cells = shares.shape[0] * shares.shape[2] * shares.shape[3]
            loss = apart + F.kl_div(told, shares, reduction="sum", log_target=True) / cells
            losses.append(_step(optimizer, loss))
    model.clip.eval()
    model.protocol = "P2" if model.protocol == "P2" else "P1"
    return losses


def learn_masks(
    model: OpenVocabulary, batches: Iterable[tuple[Tensor, Tensor]], lr: float = 1e-4, epochs: int = 1
) -> list[float]:
    """P2: train what the methods of `model.clip` added on labelled pictures: cross-entropy of the class
    probabilities, pixels without a label left out. The loss of every step."""
    check_positive("learn_masks", "epochs", epochs)
    optimizer = torch.optim.AdamW(adapters_of(model.clip), lr=lr)
    losses = []
    model.clip.train()
    for _ in range(epochs):
        for images, labels in batches:
            shares = model.vocabulary.probabilities(model(images)).clamp(min=1e-7)
            losses.append(_step(optimizer, F.nll_loss(shares.log(), labels, ignore_index=IGNORE)))
    model.clip.eval()
    model.protocol = "P2"
    return losses


def without_reducers(model: OpenVocabulary) -> OpenVocabulary:
    """A frozen copy of the model as it is, in which nothing is reduced."""
    from copy import deepcopy

    clip = deepcopy(model.clip).requires_grad_(False).eval()
    for stage in clip.stages:
        stage.before = stage.reducer = stage.mixing = None
        stage.proportional = False
    whole = OpenVocabulary(
        clip, model.vfm, vocabulary=model.vocabulary, restore=model.restore, proxied=model.proxied,
        beta=model.beta, gamma=model.gamma,
    )  # fmt: skip
    return whole.eval()


def adapters_of(clip: StagedViT) -> list[nn.Parameter]:
    """What methods added; the projection into the space of text stays as it is."""
    head = {id(weight) for weight in clip.vit.get_classifier().parameters()}
    found = [weight for weight in clip.trained().values() if id(weight) not in head]
    if not found:
        raise ValueError(
            "no method of this model has anything to train; compose it with a tuner, such as LoRA"
        )
    return found


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())
