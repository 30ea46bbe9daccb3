"""Convpass: outputs of the released code, rectangular grids, prefix tokens apart, what reducers do to it."""

from dataclasses import replace

import pytest
import torch
from golden import Golden, assert_close
from timm import create_model
from torch.nn import functional as F
from toys import images, toy, wake

from vitrim import VPT, Convpass, EViT, ToMe, compose
from vitrim.backbones.shapes import shapes_only
from vitrim.tokens.state import TokenState


def test_logits_and_tokens_are_those_of_the_released_code():
    golden = Golden("convpass_d8_s1_img224")
    hyper = golden.about["hyper"]
    model = compose(golden.backbone(), Convpass(hyper["dim"], hyper["scale"])).eval()
    with torch.no_grad():
        for name, weight in golden.weights().items():
            if "adapter_" in name:
                _, block, place, layer, kind = name.split(".")
                stage = model.stages[int(block)]
                slot = stage.beside_attention if place == "adapter_attn" else stage.beside_mlp
                getattr(getattr(slot[0], layer.removeprefix("adapter_")), kind).copy_(weight)
        assert_close(model(golden.images()), golden["logits"])
        logits, state = model.run(golden.images())
    assert_close(logits, golden["logits"])
    assert_close(state.tokens[:, -1, :8], golden["block2_last8"])


@pytest.mark.parametrize(
    ("text", "count"), [("Convpass()", 327_552), ("Convpass(beside='attention')", 163_776)]
)
def test_parameter_counts_on_vit_base(text, count):
    with shapes_only():
        model = compose(create_model("vit_base_patch16_224", num_classes=0), text)
    assert sum(parameter.numel() for parameter in model.trained().values()) == count


@pytest.mark.parametrize("start", ["identity", "xavier"])
def test_it_starts_as_the_backbone(start):
    vit = toy()
    with torch.no_grad():
        plain = vit(images(vit))
        assert_close(compose(vit, Convpass(start=start))(images(vit)), plain, 1e-12)


@pytest.mark.parametrize("family", ["vit", "rectangular", "dinov2-registers", "average-registers", "dinov3"])
def test_prefix_tokens_meet_the_centre_of_the_kernel_and_patches_their_grid(family):
    model = wake(compose(toy(family), Convpass(width=5, scale=0.7))).eval()
    vit, bypass = model.vit, model.stages[4].beside_mlp[0]
    prefix, grid = vit.num_prefix_tokens, vit.patch_embed.grid_size
    normed = torch.randn(2, prefix + grid[0] * grid[1], 24, dtype=torch.float64)
    added, _ = bypass(TokenState.start(normed, prefix, grid), normed)

    def quick_gelu(z):
        return z * torch.sigmoid(1.702 * z)

    def by_hand(maps):  # [B, h, w, D]
        hidden = quick_gelu(bypass.down(maps)).permute(0, 3, 1, 2)
        mixed = F.conv2d(hidden, bypass.conv.weight, bypass.conv.bias, padding=1)
        return 0.7 * bypass.up(quick_gelu(mixed).permute(0, 2, 3, 1))

    for i in range(prefix):
        assert_close(added[:, i], by_hand(normed[:, i, None, None])[:, 0, 0], 1e-12)
    expected = by_hand(normed[:, prefix:].unflatten(1, grid)).flatten(1, 2)
    assert_close(added[:, prefix:], expected, 1e-12)
    with torch.no_grad():
        assert_close(model(images(model)), model.run(images(model))[0], 1e-12)


def test_the_frames_of_a_video_are_convolved_each_for_itself():
    bypass = wake(compose(toy(), Convpass(width=3))).stages[0].beside_mlp[0]
    tokens = torch.randn(2, 1 + 3 * 4 * 5, 24, dtype=torch.float64)
    added, _ = bypass(TokenState.start(tokens, 1, (3, 4, 5)), tokens)
    frame = torch.cat([tokens[:, :1], tokens[:, 21:41]], dim=1)
    alone, _ = bypass(TokenState.start(frame, 1, (4, 5)), frame)
    assert_close(added[:, 21:41], alone[:, 1:], 1e-12)


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        (
            (Convpass(), EViT(0.5, (3,))),
            r"EViT\(.*\) reduces the tokens in block 3, .* in block 3; .*at=\.\.\.",
        ),
        (
            (EViT(0.5, (3,)), Convpass(beside="attention")),
            "in block 3, so Convpass finds no grid .* in block 4",
        ),
        ((ToMe(r=4), Convpass(at=(0,))), "block 0"),
        ((VPT(), Convpass()), r"VPT\(.*\) does not go with Convpass\(.*\): prompts have no cell"),
        ((Convpass(), VPT()), r"VPT\(.*\) does not go with Convpass"),
    ],
)
def test_compositions_without_a_grid_are_refused_naming_who_breaks_it(methods, words):
    with pytest.raises(ValueError, match=words):
        compose(toy(), *methods)


def test_a_reducer_behind_the_last_convolution_is_fine():
    model = wake(compose(toy(), Convpass(at=(0, 1, 2)), EViT(0.5, (3, 7)))).eval()
    with torch.no_grad():
        assert_close(model(images(model)), model.run(images(model))[0], 1e-12)
    both = Convpass(at=(0, 1, 2)), Convpass(at=(3,), beside="attention")
    compose(toy(), *both, EViT(0.5, (3,)))


def test_a_broken_grid_is_refused_when_it_only_shows_while_running():
    bypass = compose(toy(), Convpass()).stages[0].beside_mlp[0]
    tokens = torch.randn(1, 1 + 12, 24, dtype=torch.float64)
    state = TokenState.start(tokens, 1, (3, 4))
    sizes, position = state.sizes[:, :7], state.position[:, :7]
    shorter = replace(state, tokens=tokens[:, :8], sizes=sizes, position=position, moved=True)
    with pytest.raises(ValueError, match=r"whole grid of \(3, 4\) patches, but 7 tokens are left"):
        bypass(shorter, shorter.tokens)


def test_painting_equals_the_plain_convolution_while_nothing_is_lost_and_works_behind_reducers():
    vit = toy()
    batch = images(vit)
    with torch.no_grad():
        plain = wake(compose(vit, Convpass(width=4))).eval()
        logits = plain(batch)
        painted = wake(compose(toy(), Convpass(width=4, reduced="paint"))).eval()
        assert_close(painted(batch), logits, 1e-12)
        for reducer in (EViT(0.5, (2, 5)), ToMe(4)):
            model = wake(compose(toy(), Convpass(width=4, reduced="paint"), reducer)).eval()
            assert_close(model(batch), model.run(batch)[0], 1e-12)


def test_painting_spreads_a_merged_token_over_the_cells_it_stands_for():
    """Two neighbours with the same content: merged into one, every other token sees what it saw before."""
    bypass = wake(compose(toy(), Convpass(width=4, reduced="paint"))).stages[0].beside_mlp[0]
    tokens = torch.randn(1, 1 + 12, 24, dtype=torch.float64)
    tokens[:, 2] = tokens[:, 1]  # cells 0 and 1
    state = TokenState.start(tokens, 1, (3, 4))
    before, _ = bypass(state, tokens)
    keep = torch.tensor([[0, *range(2, 12)]])
    source = torch.tensor([[0, 0, *range(1, 11)]])
    fewer = torch.cat([tokens[:, :2], tokens[:, 3:]], 1)
    merged = replace(state, tokens=fewer, sizes=state.sizes[:, 1:], position=keep, source=source, moved=True)
    after, _ = bypass(merged, merged.tokens)
    assert_close(after, torch.cat([before[:, :2], before[:, 3:]], 1), 1e-12)
