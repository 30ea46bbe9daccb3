"""Every tuner and every reducer on clips: the methods know nothing of video, so one forward and backward each
shows whether some row of the batch was taken for an image of its own.
"""

import pytest
import torch
from clips import clips_for, randomised
from golden import assert_close
from torch import nn
from torch.nn import functional as F
from toys import toy

from vitrim import METHODS, TUNERS, EViT, FisherDelta, VideoModel, compose, fit, merge
from vitrim.methods.selection.scores import measure_scores
from vitrim.training.fitting import needs_fit


def backbone() -> nn.Module:
    return toy(img_size=32, patch_size=8, embed_dim=48, num_heads=4, depth=4)


def built(name: str) -> VideoModel:
    """One method on clips of three frames, settled where it chooses by data."""
    torch.manual_seed(0)
    method = METHODS[name].example(compose(backbone()))
    model = compose(backbone(), method, video="Video(frames=3)")
    assert isinstance(model, VideoModel)
    if needs_fit(model):
        fit(model, [(clips_for(model, batch=4), torch.arange(4))])
    return randomised(model)


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_of_clips_is_its_single_clips_and_every_trained_weight_learns(name):
    model = built(name)
    clips = clips_for(model, batch=2)
    with torch.no_grad():
        logits = model(clips)
        assert_close(torch.cat([model(clip[None]) for clip in clips]), logits, 1e-10)
        if name in TUNERS and TUNERS[name].folds:
            assert_close(merge(model)(clips), logits, 1e-10)
    out, penalty = model.train().forward_with_penalty(clips)
    loss = F.cross_entropy(out, torch.arange(2))
    (loss if penalty is None else loss + penalty).backward()
    silent = [n for n, p in model.trained().items() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_scores_of_a_clip_are_squares_of_its_own_gradient():
    """Fisher information of clips: frames of one clip are summed before the square, not after it."""
    model = randomised(compose(backbone(), video="Video(frames=3)"))
    clips, labels = clips_for(model, batch=2), torch.arange(2)
    found = measure_scores(model, [(clips, labels)], FisherDelta())
    name = "blocks.1.mlp.fc1.weight"
    weight = model.vit.get_parameter(name).requires_grad_()
    total = torch.zeros_like(weight)
    for clip, label in zip(clips, labels, strict=True):
        loss = F.cross_entropy(model.plain()(clip[None]), label[None])
        total += torch.autograd.grad(loss, weight)[0].square() / 2
    ours = next(value for key, value in found.values.items() if key.endswith(name))
    assert_close(ours, total, 1e-9)


@pytest.mark.parametrize("pool", ["attentive", "mean_tokens"])
def test_frames_may_keep_different_counts(pool):
    """Adaptive budgets mask tokens of frames, which are then pooled as if they were not there."""
    reducer = EViT(keep=0.6, at=(0, 1), budget="mass")
    model = compose(backbone(), reducer, video=f"Video(pool='{pool}', frames=3)").eval()
    assert isinstance(model, VideoModel)
    clips = clips_for(model, batch=2)
    fit(model, [(clips, torch.arange(2))])
    with torch.no_grad():
        logits, state = model.run(clips)
        assert state.keep is not None and len(set(state.keep.sum(1).tolist())) > 1
        assert_close(torch.cat([model(clip[None]) for clip in clips]), logits, 1e-10)
        model.set_execution("padded")
        assert_close(model(clips), logits, 1e-10)
