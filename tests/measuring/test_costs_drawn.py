"""Costs against fvcore on compositions nobody picked by hand: the same count to the last digit."""

import random

import pytest
import torch
from fvcore_counts import fvcore_count
from toys import images, toy

from vitrim import compose, costs
from vitrim.network.model import StagedViT

# Shares that float32 holds: fvcore traces, and a trace multiplies token counts in that precision
KEEPS = (0.5, 0.625, 0.75, 0.875)
ROLES = (("query", "value"), ("key", "mlp_in", "attention_out"))
DEPTH = 4  # fvcore takes its time with every operator
WITH_CLASS_TOKEN = ("vit", "distilled", "dinov2-registers", "dinov3", "eva02")


def draw_tuner(draw: random.Random) -> str:
    width = draw.choice((2, 4, 6))
    return draw.choice(
        (
            f"LoRA(rank={width}, roles={draw.choice(ROLES)!r})",
            f"Adapter(width={width}, beside={draw.choice(('mlp', 'attention'))!r})",
            f"DenseAdapter(width={width}, fusion={draw.choice(('inner', 'input', 'output'))!r})",
            f"RepAdapter(width={width})",
            f"FacT(rank={width}, form={draw.choice(('tt', 'tk'))!r})",
            f"VPT(prompts={width}, deep={draw.random() < 0.5})",
            "SSF()",
            "BitFit()",
        )
    )


def draw_reducer(draw: random.Random, depth: int) -> str:
    keep, at = draw.choice(KEEPS), tuple(sorted(draw.sample(range(1, depth), 2)))
    return draw.choice(
        (
            f"EViT(keep={keep}, at={at}, fuse={draw.choice(('mean', 'sum', 'drop'))!r})",
            f"DynamicViT(keep={keep}, at={at})",
            f"ToMe(r={draw.choice((1, 2, 3))})",
            f"Bipartite(at=({at[0]},), learned={draw.random() < 0.5})",
            f"Pool(at=({at[0]},))",
        )
    )


def draw_composition(seed: int) -> tuple[StagedViT, list[str]]:
    """A composition that the library does not refuse (the grid, say, may not allow it)."""
    draw = random.Random(seed)
    while True:
        family = draw.choice(WITH_CLASS_TOKEN)
        methods = [draw_tuner(draw), draw_reducer(draw, DEPTH)]
        try:
            return compose(toy(family, torch.float32, depth=DEPTH), *methods).eval(), methods
        except ValueError:
            continue


@pytest.mark.parametrize("seed", range(20))
def test_executed_macs_of_a_drawn_composition(seed: int) -> None:
    model, methods = draw_composition(seed)
    assert costs(model).macs == fvcore_count(model, images(model)), methods
