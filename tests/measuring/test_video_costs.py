"""What video models cost: the papers' figures for eight frames, to the digit, without weights."""

import pytest
import torch

from vitrim import Adapter, Bipartite, DenseAdapter, EViT, Video, VideoModel, compose, costs
from vitrim.network.method import Method
from vitrim.network.model import StagedViT

VIEW = [
    ((), 142_530_918_144),  # printed 142.53
    ((Adapter(width=64),), 144_390_043_392),  # printed 144.39
    (("VPT(prompts=8)",), 148_446_852_864),  # printed 148.44
    ((DenseAdapter(width=32), EViT(keep=0.7, at=(3, 6, 9))), 94_705_837_824),  # printed 99.80
]


def of_clips(*methods: Method | str, classes: int = 400) -> StagedViT:
    with torch.device("meta"):
        return compose("vit_base_patch16_224", *methods, num_classes=classes, video=Video())


@pytest.mark.parametrize(("methods", "macs"), VIEW)
def test_a_view_of_eight_frames_costs_what_papers_print(methods, macs):
    found = costs(of_clips(*methods))
    assert found.macs_paper == macs
    assert found.frames == 8 and found.trained_pooling == 2_366_976
    assert found.trained_head == 400 * 769
    assert (found.trained - found.trained_head > found.trained_pooling) == bool(methods)


def test_fpet_merges_in_every_frame_and_pools_what_is_left():
    model = of_clips(Adapter(width=8, bias=False), Bipartite(at=(6,)), classes=0)
    sizes = 98 * 99  # merged with the tokens, which the design's sum leaves out
    assert costs(model).macs_paper == 108_581_085_952 + 8 * sizes
    assert costs(model).tokens == (197,) * 6 + (99,) * 6


def test_means_cost_almost_nothing_over_the_frames_themselves():
    with torch.device("meta"):
        image = compose("vit_tiny_patch16_224", num_classes=10)
        clips = VideoModel(compose("vit_tiny_patch16_224", num_classes=10), num_frames=5, pool="mean_cls")
    alone, together = costs(image), costs(clips)
    head = 192 * 10
    assert together.macs == 5 * (alone.macs - head) + head
    assert together.macs_paper == 5 * alone.macs_paper + head
    assert together.trained_pooling == 0 and together.trained == alone.trained
    assert together.blocks == tuple(5 * block for block in alone.blocks)
