"""Test pictures with their token maps under one slider: the most wrong, the least certain, and others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from vitrim.data import DataSource
from vitrim.data.transforms import eval_transform
from vitrim.network.model import StagedViT
from vitrim.report.chart import spread_evenly
from vitrim.report.explaining import WHOLE, guesses_of, maps_of, open_variants
from vitrim.report.html import heading, paragraph, table
from vitrim.report.maps.attention import AttentionMap, attention_maps, overlay, shared_scale
from vitrim.report.maps.pixels import Pixels, as_pictures
from vitrim.report.maps.strips import first_frames, pictures_of
from vitrim.report.maps.tokens import TokenMap
from vitrim.report.picture_grid import grid, in_the_grid
from vitrim.report.shown_run import ShownRun
from vitrim.report.traced import DROPPED, FUSED, MERGED, OWN, trace
from vitrim.runs.answered import Answered
from vitrim.runs.kinds import KINDS
from vitrim.runs.tested import differs

COUNT, EACH, LOOKED_AT = 12, 4, 4
STEPS = 8  # positions of the slider
USUAL = "as the others"
LEGEND = {
    OWN: "as it is: a token of its own",
    MERGED: "one colour, framed: patches that share a token",
    FUSED: "hatched grey: fused into one token",
    DROPPED: "white: dropped",
}
SKIPPED = "darkened: passes by the MLP"


@dataclass(frozen=True)
class Sample:
    """One picture: why it is here, what it is, what the model says, and its maps."""

    why: str
    truth: str
    said: str
    right: bool | None
    picture: Pixels
    maps: tuple[TokenMap, ...]


@dataclass(frozen=True)
class Samples:
    shown: tuple[Sample, ...]
    looks: tuple[tuple[AttentionMap, ...], ...]
    """of the first few, the attention of every variant of the model"""
    moved: bool = False
    """whether these are other pictures than the run was tested on"""


def take_samples(run: ShownRun, source: DataSource) -> Samples:
    """Open the run's model and look at a dozen test pictures through it."""
    variants = open_variants(run.folder)
    model = variants[WHOLE]
    split = source.split(run.record["results"]["split"])
    moved = differs(run.answered, source, run.record["results"]["split"])
    chosen = choose(split.labels, None if moved else run.answered, model.task)
    tensors = split.with_transform(eval_transform(model.preprocess))
    images = torch.stack([tensors[index][0] for index, _ in chosen])  # [B, C, height, width], or of clips
    traced = trace(model, images)
    pictures = pictures_of(model, images)
    rows = _rows(model, source.classes, traced.logits, [split.labels[index] for index, _ in chosen])
    guesses = guesses_of(model, traced, 1)
    maps = maps_of(traced, as_pictures(model, first_frames(images)))
    shown = [
        Sample(why, truth, _said(model, said, guess), right, picture, tuple(each))
        for (_, why), (truth, said, right), guess, picture, each in zip(
            chosen, rows, guesses, pictures, maps, strict=True
        )
    ]
    few = min(LOOKED_AT, len(images))
    looked = {name: trace(variant, images[:few]) for name, variant in variants.items()}
    looks = tuple(tuple(attention_maps(looked, image)) for image in range(few))
    return Samples(tuple(shown), looks, moved)


def choose(labels: Sequence[Any], answered: Answered | None, task: str) -> list[tuple[int, str]]:
    """A dozen pictures and why each is shown: those with the highest loss, of a classifier those it is least
    sure of, and others, of as many classes as there are.
    """
    found: dict[int, str] = {}
    if answered is not None:
        losses = answered.losses
        order = losses.argsort(descending=True, stable=True).tolist()
        if task == "classify":
            wrong = [index for index in order if int(answered.answers[index, 0]) != int(labels[index])]
            found |= dict.fromkeys(wrong[:EACH], "most wrong")
            sure = answered.answers[:, 1].argsort(stable=True).tolist()
            found |= dict.fromkeys([index for index in sure if index not in found][:EACH], "least certain")
        else:
            found |= dict.fromkeys(order[:EACH], "highest loss")
    rest = [index for index in by_class_in_turn(labels) if index not in found]
    found |= dict.fromkeys(rest[: COUNT - len(found)], USUAL)
    return list(found.items())


def by_class_in_turn(labels: Sequence[Any]) -> list[int]:
    """Indices of all images, the first of each class before the second of any."""
    members: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        members.setdefault(str(label), []).append(index)
    turns = max(map(len, members.values()), default=0)
    order = sorted(members, key=lambda name: members[name][0])
    return [
        members[name][turn]
        for turn in range(min(turns, COUNT))
        for name in order
        if turn < len(members[name])
    ]


def _rows(
    model: StagedViT, names: tuple[str, ...], logits: Tensor, targets: Sequence[Any]
) -> list[tuple[str, str, bool | None]]:
    """Truth, what the model says, and whether it is right (None where there is no right and wrong)."""
    kind = KINDS[model.task]
    answers = kind.answers(model, logits).tolist()
    rows = [kind.row(names, answer, target) for answer, target in zip(answers, targets, strict=True)]
    if model.task == "regress":
        first = names[0]
        return [(f"{row[f'{first} truth']:.3g}", f"{row[f'{first} prediction']:.3g}", None) for row in rows]
    if model.task == "multilabel":
        said = [tuple(", ".join(row[what]) or "none" for what in ("truth", "prediction")) for row in rows]
        return [(truth, guess, truth == guess) for truth, guess in said]
    return [(row["truth"], row["prediction"], bool(row["right"])) for row in rows]


def _said(model: StagedViT, said: str, guess: tuple[tuple[str, float], ...]) -> str:
    return f"{said} ({100 * guess[0][1]:.0f} %)" if model.task == "classify" and guess else said


def tokens_section(samples: Samples) -> list[str]:
    """Twelve pictures under one slider."""
    blocks = [each.block for each in samples.shown[0].maps]
    chosen = spread_evenly(len(blocks), STEPS - 1) if blocks else ()
    figures = [_figure(sample, [sample.maps[place] for place in chosen]) for sample in samples.shown]
    parts = [heading("What the model looks at")]
    if samples.moved:
        parts.append(
            paragraph(
                "These are not the test pictures that the run was measured on: files came, went or changed. "
                "Which were most wrong is therefore not shown."
            )
        )
    if chosen:
        parts.append(
            '<div class="slider"><label for="block">block</label><input id="block" type="range" min="0" '
            f'max="{len(chosen)}" value="{len(chosen)}" step="1"><output id="block-words" for="block">'
            "</output></div>"
        )
        maps = [each for sample in samples.shown for each in sample.maps]
        entries = "".join(f"<span>{escape(text)}</span>" for text in legend_of(maps))
        parts.append(f'<div class="legend">{entries}</div>')
    else:
        parts.append(
            paragraph("Nothing shortens the sequence: the model sees every patch in every block.", True)
        )
    return [*parts, grid(figures, samples.shown[0].picture)]


def legend_of(maps: Sequence[TokenMap]) -> list[str]:
    """What the looks that occur in these maps mean; nobody has to wonder about others."""
    found = [words for fate, words in LEGEND.items() if any((each.fate == fate).any() for each in maps)]
    return [*found, SKIPPED] if any(each.skipped.any() for each in maps) else found


def _figure(sample: Sample, maps: Sequence[TokenMap]) -> str:
    patches = sample.maps[0].fate.size if sample.maps else 0
    steps = [("before the first block" + (f": {patches} patches" if patches else ""), sample.picture)]
    steps += [(each.words, each.picture) for each in maps]
    pictures = "".join(
        f'<img alt="{escape(f"{sample.truth}, {words}")}" src="{in_the_grid(pixels)}" '
        f'data-step="{step}" '
        f'data-block="{escape(words)}"{" hidden" if step < len(steps) - 1 else ""}>'
        for step, (words, pixels) in enumerate(steps)
    )
    caption = f"{sample.truth}" if sample.right else f"{sample.truth}; the model: {sample.said}"
    caption += f" – {sample.said}" if sample.right else ""
    wrong = ' class="wrong"' if sample.right is False else ""
    why = "" if sample.why == USUAL else f"{sample.why}: "
    return f"<figure{wrong}>{pictures}<figcaption>{escape(why + caption)}</figcaption></figure>"


def attention_section(samples: Samples) -> list[str]:
    """What the class token attends to, variant by variant, and how far each is from the plain backbone."""
    names = [each.name for each in samples.looks[0]] if samples.looks else []
    if len(names) < 2:
        return []
    parts = [
        heading("What it attends to, beside the plain backbone"),
        paragraph(
            "Attention of the class token to the patches in the last block, the mean over heads (without a "
            "class token: the mean over all tokens), one scale for each picture; dropped patches are black. "
            "A fused or shared token's attention is spread evenly over its patches.",
            note=True,
        ),
    ]
    for sample, row in zip(samples.shown, samples.looks, strict=False):
        most = shared_scale(row)
        figures = [_look(each, overlay(sample.picture, each.values, most)) for each in row]
        parts += [f"<h3>{escape(sample.truth)}</h3>", grid(figures, sample.picture)]
    rows = [
        (
            name,
            fmean(row[place].cosine or 0.0 for row in samples.looks),
            fmean(row[place].divergence or 0.0 for row in samples.looks),
        )
        for place, name in enumerate(names)
        if place
    ]
    heads = ("mean over these pictures", f"cosine to {names[0]}", "Jensen-Shannon divergence, bits")
    return [*parts, table(heads, rows)]


def _look(look: AttentionMap, pixels: Pixels) -> str:
    words = escape(look.words)
    picture = f'<img alt="{words}" src="{in_the_grid(pixels)}">'
    return f"<figure>{picture}<figcaption>{words}</figcaption></figure>"
