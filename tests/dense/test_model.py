"""Maps come back on the whole grid: equal to the unreduced ones where nothing is reduced, near them
otherwise, whatever shares the batch."""

from itertools import combinations

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from toys import SIZES, images, toy, wake

from vitrim import DenseAdapter, EViT, LoRA, Pool, ResTuning, ToMe, compose
from vitrim.dense.classes import ClassTable
from vitrim.dense.model import DenseModel
from vitrim.dense.restoring import RESTORE, unreduced_error
from vitrim.dense.tiling import slide, starts, windows

FAMILIES = ("vit", "siglip", "dinov2-registers", "dinov3", "beit", "rectangular")


X = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def dense(*methods: object, family: str = "vit", seed: int = 0, **settings: object) -> DenseModel:
    """A model with nothing at its initial value, batch statistics included."""
    torch.manual_seed(seed)
    model = DenseModel(toy(family, depth=6), *methods, classes=3, **settings)
    wake(model.head, seed)
    for name, value in model.named_buffers():
        if "running" in name:
            value.uniform_(0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_restore_equals_the_unreduced_logits_where_all_is_kept(family: str) -> None:
    plain = dense(family=family)
    kept = dense(EViT(keep=1.0, at=(2, 4), score="received"), family=family)
    x = images(plain.staged)
    wanted = plain(x)
    assert wanted.shape == (2, 3, *x.shape[-2:])
    for kept.restore in RESTORE:
        assert torch.equal(kept(x), wanted), kept.restore


def test_every_restore_changes_logits_in_its_own_way() -> None:
    x, found = X, {}
    model = dense(EViT(keep=0.7, at=(2, 3)))
    for model.restore in RESTORE:
        found[model.restore] = model(x)
    del found["logits"]  # what copy gives: the next test
    found["nothing reduced"] = dense()(x)
    for one, other in combinations(found, 2):
        assert not torch.allclose(found[one], found[other]), (one, other)


def test_decoding_first_gives_what_copying_first_gives_for_less() -> None:
    for reducer in (EViT(keep=0.5, at=(2, 4)), EViT(keep=0.5, at=(2,), fuse="drop"), ToMe(r=5)):
        model = dense(reducer, restore="logits")
        x = images(model.staged)
        decoded = model(x)
        model.restore = "copy"
        torch.testing.assert_close(decoded, model(x))


@pytest.mark.parametrize("reducer", [EViT(keep=0.6, at=(2, 4)), ToMe(r=4), Pool(at=(2,))], ids=repr)
def test_delta_is_at_least_as_near_as_copy_on_random_frozen_backbones(reducer: object) -> None:
    for seed in range(2):
        reduced, errors = DenseModel(toy(seed=seed, depth=6), reducer, classes=2).eval(), {}
        x = images(reduced.staged, seed=seed)
        whole = DenseModel(toy(seed=seed, depth=6), classes=2).eval().maps(x)[-1]
        for reduced.restore in ("delta", "copy"):
            errors[reduced.restore] = unreduced_error(reduced.maps(x)[-1], whole)
        assert errors["delta"] <= errors["copy"], errors


@pytest.mark.parametrize("head", ["linear", "upernet", "smp:upernet", "smp:segformer"])
def test_what_one_image_gives_does_not_depend_on_the_others(head: str, monkeypatch) -> None:
    if head.startswith("smp:"):
        pytest.importorskip("segmentation_models_pytorch")
        monkeypatch.setattr("vitrim.dense.borrowed.CHANNELS", 8)
    monkeypatch.setattr("vitrim.dense.heads.CHANNELS", 8)
    model = dense(EViT(keep=0.6, at=(2, 4)), head=head)
    x = images(model.staged, batch=3)
    assert model(x).shape == (3, 3, 32, 32)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]))


def test_every_tap_is_read_with_what_was_reduced_up_to_it() -> None:
    """Before the first reduction a map is that of the plain backbone."""
    x = X
    reduced, whole = dense(EViT(keep=0.5, at=(3,))).maps(x), dense().maps(x)
    assert torch.equal(reduced[0], whole[0]) and torch.equal(reduced[1], whole[1])
    assert not torch.allclose(reduced[2], whole[2]) and not torch.allclose(reduced[3], whole[3])


def test_pruned_tokens_join_again_before_the_last_block() -> None:
    """With the last block alone behind the reduction, nothing but the pruned tokens' part of it is lost."""
    x = X
    fused = dense(EViT(keep=0.5, at=(4,), fuse="drop"), restore="fuse_last", taps=(5,)).maps(x)[0]
    plain = compose(toy(depth=6), EViT(keep=0.5, at=(4,), fuse="drop"), num_classes=0)
    state, places = plain.begin(x, history=True)
    before = plain.pass_blocks(state, places, range(4), None)
    whole = compose(toy(depth=6), num_classes=0)
    kept = dense(EViT(keep=0.5, at=(4,), fuse="drop"), restore="copy", taps=(4,), norm=False).maps(x)[0]
    prefix = plain.pass_blocks(before, places, range(4, 5), None).tokens[:, :1]
    again = torch.cat([prefix, kept.flatten(2).transpose(1, 2)], dim=1)
    wanted = whole.vit.norm(whole.vit.blocks[5](again))[:, 1:].transpose(1, 2).unflatten(2, (8, 8))
    torch.testing.assert_close(fused, wanted)


def test_all_that_trains_gets_a_gradient(monkeypatch) -> None:
    monkeypatch.setattr("vitrim.dense.heads.CHANNELS", 8)
    for head in ("linear", "upernet"):
        model = dense(LoRA(rank=2), DenseAdapter(width=4), EViT(keep=0.6, at=(2, 4)), head=head)
        wake(model.staged.shared), [wake(stage) for stage in model.staged.stages]
        model.train()
        decoded = model.decode(images(model.staged))
        loss = decoded.logits.square().mean()
        if decoded.auxiliary is not None:
            loss = loss + decoded.auxiliary.square().mean()
        loss.backward()
        # A key's bias, or a bias before a batch norm, has none by algebra; none of ours is either
        still = [name for name, value in model.trained().items() if value.grad is None]
        assert not still and all(name.startswith(("staged.", "head.")) for name in model.trained())


def test_position_embeddings_are_resized_as_timm_does() -> None:
    x = torch.randn(1, 3, 48, 40, dtype=torch.float64)
    own = DenseModel(toy(depth=6), classes=2, image_size=(48, 40)).eval()
    other = toy(depth=6)
    other.set_input_size(img_size=(48, 40))
    wanted = other.forward_intermediates(x, indices=[1, 5], norm=True, intermediates_only=True)
    torch.testing.assert_close(own.maps(x)[0], wanted[0])
    torch.testing.assert_close(own.maps(x)[-1], wanted[1])
    free = wake(VisionTransformer(**{**SIZES, "depth": 6}, dynamic_img_size=True).double()).eval()
    taken = free.forward_intermediates(x, indices=[5], norm=True, intermediates_only=True)
    model = DenseModel(free, EViT(keep=0.7, at=(2,)), classes=2).eval()
    assert model(x).shape == (1, 2, 48, 40)
    whole = DenseModel(free.requires_grad_(True), classes=2).eval()
    torch.testing.assert_close(whole.maps(x)[-1], taken[0])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"restore": "fill"}, "restore must be one of"),
        ({"taps": (3, 6)}, "there is no block 6 to read; the backbone has blocks 0 to 5"),
        ({"head": "mask"}, "head must be one of linear, upernet, or smp:NAME"),
        ({"head": "upernet", "taps": (3, 5)}, "reads 4 taps, but 2 were given"),
        ({"head": "upernet", "restore": "logits"}, "without their neighbours"),
        ({"classes": 256}, "1 to 255 classes, got 256"),
        ({"classes": ("a", "a")}, "two classes are called 'a'"),
        ({"methods": (ResTuning(),)}, "gives its result to a classifier of whole pictures"),
        ({"methods": (EViT(at=(5,)),), "restore": "fuse_last"}, "but EViT"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_in_a_sentence(given: dict, words: str) -> None:
    given = {"classes": 3, **given}
    with pytest.raises(ValueError, match=words):
        DenseModel(toy(depth=6), *given.pop("methods", ()), **given)


def test_sams_windows_are_refused_with_what_can_be_taken_instead() -> None:
    """SAM's blocks cut the grid into squares, which tokens that were reduced do not fill."""
    from timm.models.vision_transformer_sam import VisionTransformerSAM

    sam = VisionTransformerSAM(
        img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, window_size=2, num_classes=0
    )
    words = r"VisionTransformerSAM is not supported, its window attention .*; supported are .*DINOv2, DINOv3"
    with pytest.raises(ValueError, match=words):
        DenseModel(sam, EViT(at=(1,)), classes=2)


def test_merged_tokens_cannot_be_put_back() -> None:
    model = dense(ToMe(r=4, at=(2, 3)), restore="fuse_last")
    with pytest.raises(ValueError, match="these were merged into others; use delta, copy or knn"):
        model(images(model.staged))


def test_colours_are_those_of_voc() -> None:
    table = ClassTable.of(22)
    assert table.colours[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert table.colours[20:] == ((0, 64, 128), (128, 64, 128))
    assert ClassTable.from_json(table.to_json()) == table and len(table.palette()) == 768


def test_windows_cover_every_pixel_and_their_mean_is_exact() -> None:
    assert starts(500, 224, 150) == [0, 150, 276] and starts(224, 224, 150) == [0]
    assert windows((4, 6), (4, 4), (2, 2)) == [(0, 0), (0, 2)]
    by_pixel = torch.nn.Conv2d(3, 2, 1).double()
    x = torch.randn(2, 3, 37, 50, dtype=torch.float64)
    for stride in (16, (5, 7), None):
        torch.testing.assert_close(slide(by_pixel, x, 16, stride, batch_size=3), by_pixel(x))
    # Where windows overlap, both count the same: by hand
    first = slide(lambda cut: cut.mean((2, 3), keepdim=True).expand_as(cut), x[:1, :, :4, :6], 4, 2)
    left, right = x[0, :, :4, :4].mean((1, 2)), x[0, :, :4, 2:6].mean((1, 2))
    torch.testing.assert_close(first[0, :, 0, 1], left)
    torch.testing.assert_close(first[0, :, 3, 2], (left + right) / 2)
    with pytest.raises(ValueError, match="shorter than a window"):
        slide(by_pixel, x, 40)
    with pytest.raises(ValueError, match="leaves gaps"):
        slide(by_pixel, x, 16, 17)
