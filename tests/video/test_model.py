"""`VideoModel`: the official model's decisions and logits, the order of frames, views, single clips, what it
refuses, and that a file gives it back.
"""

import copy

import pytest
import torch
from clips import clips_for, fill, small_clips
from golden import Golden, assert_close
from toys import images, toy, wake

from vitrim import DyT, EViT, LoRA, SynQT, ToMe, Video, VideoModel, compose, load, merge, save
from vitrim.video.settings import POOLS, parse_video


def test_decisions_and_logits_are_those_of_the_released_code():
    golden = Golden("dyt_video_model_t4_d64")
    hyper = golden.about["hyper"]
    model = compose(
        golden.backbone(), DyT(hyper["adapter_width"], scale=hyper["adapter_scale"]), video="Video"
    )
    assert isinstance(model, VideoModel) and model.clip_pool is not None
    fill(model.clip_pool, golden)
    with torch.no_grad():
        for index, stage in enumerate(model.stages):
            layers = {
                "adaptmlp.down_proj": stage.beside_mlp[0].adapter.down,
                "adaptmlp.up_proj": stage.beside_mlp[0].adapter.up,
                "mlp_token_select.mlp_head": stage.dispatch.router,
            }
            for name, layer in layers.items():
                layer.weight.copy_(golden.weight(f"blocks.{index}.{name}.weight"))
                layer.bias.copy_(golden.weight(f"blocks.{index}.{name}.bias"))
        model.eval()
        logits, state = model.run(golden.images())
        assert_close(logits, golden["logits"])
        assert_close(model(golden.images()), golden["logits"])
        complete, _ = model.forward_with_penalty(golden.images(), complete=True)
    assert_close(complete, golden["logits_complete_model"])
    chosen = torch.stack(state.dispatched, 1)  # [B*T, depth, patches]
    assert torch.equal(chosen.unflatten(0, (2, 4)).double(), golden["token_select"].double())


@pytest.mark.parametrize("pool", POOLS)
def test_the_order_of_frames_does_not_matter_without_an_embedding(pool):
    model = small_clips(Video(pool=pool, frames=3), EViT(keep=0.6, at=(1,)))
    clips = clips_for(model)
    with torch.no_grad():
        assert_close(model(clips[:, :, [2, 0, 1]]), model(clips), 1e-12)
        assert (model(clips.roll(1, 0)) - model(clips)).abs().max() > 1e-3


@pytest.mark.parametrize("embedding", ["learned", "sincos"])
def test_an_embedding_is_nothing_at_the_start_and_tells_frames_apart_afterwards(embedding):
    model = small_clips(Video(temporal_embed=embedding, frames=3), woken=False)
    same = small_clips(Video(frames=3), woken=False)
    same.load_state_dict(model.state_dict(), strict=False)
    clips = clips_for(model)
    with torch.no_grad():
        assert torch.equal(model(clips), same(clips))
        assert_close(model(clips[:, :, [2, 0, 1]]), model(clips), 1e-12)
        wake(model)
        assert (model(clips[:, :, [2, 0, 1]]) - model(clips)).abs().max() > 1e-3
    model.train()(clips).square().mean().backward()
    assert not [n for n, p in model.trained().items() if p.grad is None or not p.grad.abs().sum() > 0]


@pytest.mark.parametrize("pool", POOLS)
def test_a_batch_is_its_single_clips_and_views_are_averaged(pool):
    model = small_clips(Video(pool=pool, frames=3), ToMe(r=4, at=(1, 2)), LoRA(rank=2))
    clips = clips_for(model, batch=3)
    with torch.no_grad():
        logits = model(clips)
        assert_close(torch.cat([model(clip[None]) for clip in clips]), logits, 1e-12)
        assert_close(model(clips[None]), logits.mean(0, keepdim=True), 1e-12)
        assert_close(model(clips[:, None]), logits, 1e-12)
        features, again = model.features_and_logits(clips[None])
        assert features.shape == (1, model.width) and torch.equal(again, model(clips[None]))
        assert_close(features, model.read_by_head(clips).mean(0, keepdim=True), 1e-12)
        whole, state = model.run(clips)
        assert_close(whole, logits, 1e-12)
    assert state.clips == (1, 3) and state.tokens.shape[0] == 9


@pytest.mark.parametrize("family", ["vit", "distilled", "siglip", "average", "dinov2-registers", "cait"])
def test_still_frames_are_the_image_itself(family):
    """A clip of equal frames says what one frame says, and its class tokens say what the image says."""
    backbone = toy(family, depth=2)
    pool = "mean_tokens" if family in ("siglip", "average") else "mean_cls"
    model = compose(copy.deepcopy(backbone), ToMe(r=3, at=(0,)), video=Video(pool=pool, frames=2)).eval()
    image = images(backbone)
    still = torch.stack([image, image], 2)
    with torch.no_grad():
        logits = model(still)
        assert_close(logits, model(still[:, :, :1]), 1e-12)
        if family != "siglip":  # whose own head pools by attention
            plain = compose(copy.deepcopy(backbone), ToMe(r=3, at=(0,))).eval()
            assert_close(logits, plain(image), 1e-12)


def test_a_side_stream_gives_each_frame_one_vector():
    model = small_clips(Video(frames=3), SynQT(queries=2, hidden=4))
    clips = clips_for(model)
    with torch.no_grad():
        assert_close(torch.cat([model(clip[None]) for clip in clips]), model(clips), 1e-12)
    model.train()(clips).square().mean().backward()
    silent = [n for n, p in model.trained().items() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


def test_an_image_model_can_be_wrapped_afterwards():
    image_model = compose(toy(depth=2), LoRA(rank=2), num_classes=4).eval()
    model = VideoModel(image_model, num_frames=2, pool="mean_cls")
    image = images(image_model)
    with torch.no_grad():
        assert_close(model(torch.stack([image, image], 2)), image_model(image), 1e-12)
    assert model.methods == image_model.methods and set(model.trained()) == set(image_model.trained())
    with pytest.raises(ValueError, match="takes an image model"):
        VideoModel(model)


@pytest.mark.parametrize("embedding", ["none", "learned", "sincos"])
def test_a_file_gives_the_model_back(embedding, tmp_path):
    video = Video(temporal_embed=embedding, frames=3)
    model = small_clips(video, LoRA(rank=2), EViT(keep=0.6, at=(1,)))
    save(model, tmp_path / "clips.safetensors")
    again = load(tmp_path / "clips.safetensors", backbone=toy(depth=3, seed=0))
    merged = merge(model)
    save(merged, tmp_path / "merged.safetensors")
    for other in (again, merged, load(tmp_path / "merged.safetensors", backbone=toy(depth=3, seed=0))):
        assert isinstance(other, VideoModel) and other.video == model.video
        assert_close(other(clips_for(model)), model(clips_for(model)), 1e-12)


def test_the_file_of_an_image_model_says_nothing_of_video(tmp_path):
    from vitrim.files.saving import read

    save(compose(toy(depth=2)), tmp_path / "image.safetensors")
    assert "video" not in read(tmp_path / "image.safetensors")[0]


SHAPES = [
    ((2, 3, 32, 32), "got 4 dimensions; for images, compose without video"),
    ((3, 32, 32), "got 3 dimensions"),
    ((2, 4, 3, 32, 32), "takes 3 channels, got images with 4"),
    ((2, 3, 3, 32, 40), "32x32 pixels, got 32x40"),
    ((2, 3, 5, 32, 32), "have 5 frames, but the temporal embedding was learned for 3"),
]


@pytest.mark.parametrize(("shape", "sentence"), SHAPES)
def test_other_shapes_are_refused(shape, sentence):
    model = small_clips(Video(temporal_embed="learned", frames=3))
    with pytest.raises(ValueError, match=sentence):
        model(torch.zeros(shape, dtype=torch.float64))


def test_an_image_model_refuses_clips():
    with pytest.raises(ValueError, match="got 5 dimensions"):
        compose(toy(depth=2))(torch.zeros(1, 3, 2, 32, 32).double())


REFUSED = [
    ("Video(pool='max')", "pool must be one of 'attentive', 'mean_cls', 'mean_tokens'"),
    ("Video(temporal_embed='wave')", "temporal_embed must be one of"),
    ("Video(pool='mean_cls', temporal_embed='learned')", "gives the same in any order"),
    ("Video(pool='mean_cls', pool_heads=2)", "has no heads"),
    ("Video(frames=0)", "frames must be a whole number of at least 1"),
    ("Clip(pool='attentive')", "cannot read video settings"),
    ("Video(pool=", "cannot read video settings"),
    ("Video(stride=2)", "has no setting 'stride'"),
]


@pytest.mark.parametrize(("text", "sentence"), REFUSED)
def test_settings_that_cannot_be_are_refused(text, sentence):
    with pytest.raises(ValueError, match=sentence.replace("(", r"\(")) as refusal:
        parse_video(text)
    assert "\n" not in str(refusal.value)


def test_settings_round_trip_through_their_text():
    for video in (Video(), Video(pool="mean_tokens"), Video(temporal_embed="sincos", frames=4, pool_heads=2)):
        assert parse_video(repr(video)) == video
    assert repr(Video()) == "Video(pool='attentive', temporal_embed='none')"


def test_class_tokens_are_asked_for_only_where_there_are_some():
    with pytest.raises(ValueError, match="needs a class token, which this backbone has not"):
        compose(toy("siglip", depth=2), video="Video(pool='mean_cls')")
    with pytest.raises(ValueError, match=r"video must be Video\(...\) or its text"):
        compose(toy(depth=2), video=8)  # type: ignore[arg-type]
