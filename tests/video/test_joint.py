"""Joint space-time: the inflated kernel is a convolution over frames, every reducer that needs no class token
runs on the grid of tubelets, and a checkerboard of it merges across frames.
"""

import copy

import pytest
import torch
from clips import randomised
from golden import assert_close
from torch.nn import functional as F
from toys import images, toy

from vitrim import METHODS, EViT, LoRA, VideoModel, compose, costs, fit, load, save
from vitrim.methods.reducers.matching import checkerboard
from vitrim.network.method import Method
from vitrim.training.fitting import needs_fit

FRAMES = 4


def joint(*methods: Method | str, more: str = "", family: str = "vit") -> VideoModel:
    torch.manual_seed(0)
    backbone = toy(family, depth=4, patch_size=8)
    model = compose(backbone, *methods, video=f"Video(frames={FRAMES}, inflate='joint'{more})")
    assert isinstance(model, VideoModel)
    return randomised(model)


def clips(model: VideoModel, batch: int = 2) -> torch.Tensor:
    return torch.stack([images(model, batch, seed=seed) for seed in range(FRAMES)], 2)


@pytest.mark.parametrize("kernel", ["mean", "centre"])
def test_the_kernel_is_a_convolution_over_two_frames(kernel):
    model = joint(more=f", kernel='{kernel}'")
    flat = model.vit.patch_embed.proj
    still = torch.zeros_like(flat.weight)
    parts = (flat.weight / 2, flat.weight / 2) if kernel == "mean" else (still, flat.weight)
    whole = torch.stack(parts, 2) + model.tubelets.weight  # [D, C, 2, p, p]
    with torch.no_grad():
        expected = F.conv3d(clips(model), whole, flat.bias, stride=(2, 8, 8))  # [B, D, T/2, rows, columns]
        expected = expected.flatten(2).transpose(1, 2) + model.vit.pos_embed[:, 1:].repeat(1, 2, 1)
        state, _ = model.begin(clips(model))
    assert state.grid == (2, 4, 4) == model.grid and state.prefix == 0
    assert_close(state.tokens, expected, 1e-12)


def test_frames_see_each_other_and_an_embedding_tells_when():
    model = joint(more=", pool='mean_tokens', temporal_embed='learned'")
    given = clips(model)
    with torch.no_grad():
        assert (model(given[:, :, [2, 3, 0, 1]]) - model(given)).abs().max() > 1e-3
        assert model.times is not None
        model.times.table.zero_()
        assert_close(model(given[:, :, [2, 3, 0, 1]]), model(given), 1e-12)  # pairs in another order
        assert (model(given[:, :, [1, 0, 2, 3]]) - model(given)).abs().max() > 1e-3  # inside a pair it shows


def test_the_checkerboard_alternates_in_time_too():
    position = torch.arange(2 * 4 * 4)[None]
    first, _ = checkerboard(position, (2, 4, 4))
    assert all((t + i + j) % 2 == 0 for t, i, j in ((p // 16, p // 4 % 4, p % 4) for p in first[0].tolist()))
    model = joint("Bipartite(at=(1,))")
    assert costs(model).tokens == (32, 16, 16, 16)
    _, state = model.run(clips(model))
    frames_of = [set((state.source[0] == slot).nonzero()[:, 0].div(16, rounding_mode="floor").tolist())
                 for slot in range(state.count)]  # fmt: skip
    assert any(len(found) == 2 for found in frames_of)  # some token stands for patches of both


UNREACHED = "leaves the backbone without gradients, so tubelets.weight would never train"
REFUSED = {
    "Convpass": "convolves images",
    "Pool": "windows are cut from images",
    "ResTuning": UNREACHED,
    "SynQT": UNREACHED,
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_runs_or_says_why_not(name):
    shaped = compose(toy(depth=4, patch_size=8), video=f"Video(frames={FRAMES}, inflate='joint')")
    method = METHODS[name].example(shaped)
    if name in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[name]):
            joint(method)
        return
    model = joint(method)
    given = clips(model)
    if needs_fit(model):
        fit(model, [(given, torch.arange(2))])
    with torch.no_grad():
        logits = model(given)
        assert_close(torch.cat([model(clip[None]) for clip in given]), logits, 1e-10)
        assert_close(model(given[None]), logits.mean(0, keepdim=True), 1e-10)
    out, penalty = model.train().forward_with_penalty(given)
    loss = F.cross_entropy(out, torch.arange(2))
    (loss if penalty is None else loss + penalty).backward()
    assert model.tubelets.weight.grad is not None and model.tubelets.weight.grad.abs().sum() > 0


def test_ranking_by_a_class_token_is_refused():
    with pytest.raises(ValueError, match="no class token to rank by; use score='received'"):
        joint("EViT(keep=0.5, at=(1,))")


@pytest.mark.parametrize(("more", "sentence"), [
    (", pool='mean_cls'", "has no class token"), (", kernel='last'", "kernel must be one of"),
])  # fmt: skip
def test_settings_without_sense_are_refused(more, sentence):
    with pytest.raises(ValueError, match=sentence):
        joint(more=more)


def test_odd_clips_and_other_backbones_are_refused():
    with pytest.raises(ValueError, match="which 3 frames do not fill"):
        compose(toy(depth=2), video="Video(frames=3, inflate='joint')")
    with pytest.raises(ValueError, match="have 3 frames, of which"):
        model = joint()
        model(clips(model)[:, :, :3])
    for family in ("beit", "dinov3", "clip", "siglip"):
        if family != "siglip":
            with pytest.raises(ValueError, match="is for timm's plain VisionTransformer"):
                joint(family=family)
    assert joint(family="siglip").grid == (2, 4, 4)  # a plain one without a class token


def test_a_file_gives_the_joint_model_back(tmp_path):
    model = joint("LoRA(rank=2)", "ToMe(r=4, at=(1,))", more=", temporal_embed='sincos'")
    save(model, tmp_path / "joint.safetensors")
    again = load(tmp_path / "joint.safetensors", backbone=toy(depth=4, patch_size=8))
    assert type(again) is type(model)
    with torch.no_grad():
        assert_close(again(clips(model)), model(clips(model)), 1e-12)
        assert_close(copy.deepcopy(model).plain()(clips(model)), model.plain()(clips(model)), 1e-12)


@pytest.mark.parametrize("pool", ["attentive", "mean_tokens"])
def test_each_clip_keeps_its_own_number_of_tubelets(pool):
    reducer = EViT(keep=0.6, at=(0, 2), score="received", budget="mass")
    model = joint(reducer, LoRA(rank=2), more=f", pool='{pool}'")
    for block in model.vit.blocks:  # so that what is attended to is not all alike
        block.attn.qkv.weight.data[: 2 * model.width] *= 3
    given = clips(model, 6)
    fit(model, [(given, torch.zeros(6))])
    with torch.no_grad():
        together, state = model.run(given)
        assert state.keep is not None and state.keep.sum(1).unique().numel() > 1
        for split in (1, 4):
            assert_close(torch.cat([model(part) for part in given.split(split)]), together, 1e-12)
        for execution in ("padded", "bucketed"):
            model.set_execution(execution)
            assert_close(model(given), together, 1e-12)
        views = torch.stack([given, given.flip(3)], 1)  # [B, V, C, T, height, width]
        assert_close(model(views), (together + model(given.flip(3))) / 2, 1e-12)
