"""What became of every patch, on a grid of 4 x 4 worked out by hand."""

import numpy
import pytest
import torch
from torch import Tensor
from toys import images, toy

from vitrim import LTMP, Bipartite, DyT, EViT, LoRA, Pool, ToMe, compose
from vitrim.report.maps.attention import attention_maps, distances, overlay
from vitrim.report.maps.pixels import as_pictures, cells_of, edges, mean_colours
from vitrim.report.maps.tokens import paint, scattered, token_map
from vitrim.report.samples import legend_of
from vitrim.report.traced import DROPPED, FUSED, MERGED, OWN, TracedBlock, members_of, trace

GRID = (4, 4)


def block(entering: Tensor, leaving: Tensor, fate: Tensor, attention: Tensor) -> TracedBlock:
    skipped = torch.zeros_like(leaving, dtype=torch.bool)
    return TracedBlock(0, entering, leaving, fate, skipped, int(leaving.max()) + 1, attention)


def by_hand() -> tuple[Tensor, Tensor]:
    """Row 0 alone, row 1 one token, row 2 fused, row 3 dropped: tokens 0..3, 4, 5, none."""
    leaving = torch.tensor([[0, 1, 2, 3, 4, 4, 4, 4, 5, 5, 5, 5, -1, -1, -1, -1]])
    fate = torch.tensor([[OWN] * 4 + [MERGED] * 4 + [FUSED] * 4 + [DROPPED] * 4])
    return leaving, fate


def test_the_map_by_hand() -> None:
    leaving, fate = by_hand()
    pixels = numpy.linspace(0, 0.9, 16 * 16 * 3).reshape(16, 16, 3)
    found = token_map(pixels, block(leaving, leaving, fate, torch.ones(1, 6)), 0, GRID)
    assert (found.picture[:4] == pixels[:4]).all()  # a token of its own is shown as it is
    assert numpy.allclose(found.picture[5:7], pixels[4:8].reshape(-1, 3).mean(0))  # within the rim
    assert (found.picture[4] == found.picture[4, 0]).all() and (found.picture[4] != found.picture[5]).all()
    assert (found.picture[12:] == 1).all()  # dropped
    assert not (found.picture[8:12] == 1).any()  # the fused ones are not dropped
    assert found.words == (
        "after block 0, of 16 patches: 4 a token of its own, 4 shares a token with like ones, "
        "4 fused into one token, 4 dropped"
    )


def test_pieces_of_pictures_by_hand() -> None:
    assert cells_of(4, 6, (2, 3)).tolist() == [[0, 0, 1, 1, 2, 2]] * 2 + [[3, 3, 4, 4, 5, 5]] * 2
    assert cells_of(3, 3, (2, 2)).tolist() == [[0, 0, 1], [0, 0, 1], [2, 2, 3]]  # no even division
    assert edges(numpy.array([[0, 0, 1], [0, 0, 1]])).tolist() == [[False, True, True]] * 2
    pixels = numpy.zeros((1, 4, 3))
    pixels[0, :, 0] = [0.2, 0.4, 0.6, 1.0]
    colours = mean_colours(pixels, numpy.array([[0, 0, 1, -1]]), 2)
    assert numpy.allclose(colours[:, 0], [0.3, 0.6])
    torn = numpy.array([[0, 1, 0], [2, 1, 3]])
    fate = numpy.where(torn < 2, MERGED, OWN)
    assert scattered(torn, fate) == (1, 0.5)  # 0 in two corners, 1 in one piece
    assert members_of(torch.tensor([[0, 0, 1, -1]])).tolist() == [[2, 2, 1, 0]]


def test_attention_goes_back_to_the_patches() -> None:
    leaving, fate = by_hand()
    found = block(leaving, leaving, fate, torch.tensor([[0.1, 0.1, 0.1, 0.1, 0.2, 0.4]]))
    spread = found.attention_of_patches(spread=True)[0]
    assert spread[4:8].tolist() == pytest.approx([0.05] * 4)
    assert spread[8:12].tolist() == pytest.approx([0.1] * 4)
    assert spread[12:].isnan().all()
    assert float(spread.nansum()) == pytest.approx(1.0)
    assert found.attention_of_patches()[0, 4:8].tolist() == pytest.approx([0.2] * 4)


def test_distances_by_hand() -> None:
    one, other = numpy.array([[1.0, 0.0]]), numpy.array([[0.0, 1.0]])
    assert distances(one, one) == pytest.approx((1.0, 0.0))
    assert distances(one, other) == pytest.approx((0.0, 1.0))
    cosine, bits = distances(one, numpy.array([[0.5, 0.5]]))
    assert cosine == pytest.approx(2**-0.5)
    assert bits == pytest.approx(0.5 * numpy.log2(4 / 3) + 0.25 * numpy.log2(2 / 3) + 0.25)


@pytest.mark.parametrize("family", ["vit", "dinov3", "siglip", "rectangular"])
def test_the_fused_token_is_never_painted_as_a_patch(family: str) -> None:
    """Registers, no class token, a rectangular image; two stages, so that a fused token competes again."""
    score = "pool" if family == "siglip" else "class"
    model = compose(toy(family), EViT(keep=0.5, at=(2, 5), score=score))
    batch = images(model, 3)
    found = trace(model, batch)
    assert torch.allclose(found.logits, model(batch))
    assert [block.block for block in found.shortening] == [2, 5]
    for index, count in ((2, 1), (5, 1)):
        fate, tokens = found.blocks[index].fate, found.blocks[index].leaving
        assert not (fate == MERGED).any()
        for image in range(3):
            groups = set(tokens[image][fate[image] == FUSED].tolist())
            assert 1 <= len(groups) <= count + 1
            assert not groups & set(tokens[image][fate[image] == OWN].tolist())
    last = found.blocks[-1]
    shared = last.attention_of_patches(spread=True)
    assert torch.allclose(shared.nansum(1), last.attention.sum(1))


@pytest.mark.parametrize(
    ("method", "fates"),
    [
        (EViT(keep=0.5, at=(2, 5), fuse="drop"), {OWN, DROPPED}),
        (EViT(keep=0.5, at=(2, 5)), {OWN, FUSED}),
        (ToMe(r=3), {OWN, MERGED}),
        (Bipartite(at=(3,)), {OWN, MERGED}),
        (Pool(at=(3,)), {MERGED}),
    ],
)
def test_every_way_to_reduce_has_its_own_look(method: object, fates: set[int]) -> None:
    model = compose(toy(), LoRA(rank=2), method)
    found = trace(model, images(model, 2))
    assert set(found.blocks[-1].fate.unique().tolist()) == fates
    assert torch.allclose(found.logits, model(images(model, 2)))
    pictures = as_pictures(model, images(model, 2))
    maps = [token_map(pictures[0], each, 0, found.grid) for each in found.shortening]
    assert maps and all(each.picture.shape == pictures[0].shape for each in maps)
    looks = {OWN: "as it is", MERGED: "one colour, framed", FUSED: "hatched grey", DROPPED: "white"}
    met = [any((each.fate == fate).any() for each in maps) for fate in looks]
    legend = [words.partition(":")[0] for words in legend_of(maps)]
    assert legend == [look for look, there in zip(looks.values(), met, strict=True) if there]
    again = paint(pictures[0], maps[-1].group, maps[-1].fate, maps[-1].skipped)
    assert again.tobytes() == maps[-1].picture.tobytes()


def test_images_that_keep_different_counts() -> None:
    model = compose(toy(), LTMP())
    found = trace(model, images(model, 3))
    assert torch.allclose(found.logits, model(images(model, 3)))
    for block in found.blocks:
        assert int(block.leaving.max()) < block.tokens


def test_dispatchers_are_shown_too() -> None:
    model = compose(toy(), DyT())
    found = trace(model, images(model, 2))
    skipped = torch.stack([block.skipped for block in found.blocks])
    assert skipped.any() and found.shortening
    pictures = as_pictures(model, images(model, 2))
    legend = legend_of([token_map(pictures[0], each, 0, found.grid) for each in found.shortening])
    assert legend == ["as it is: a token of its own", "darkened: passes by the MLP"]


def test_maps_of_several_models_on_one_scale() -> None:
    plain, reduced = compose(toy()), compose(toy(), EViT(keep=0.5, at=(2,), fuse="drop"))
    batch = images(plain, 2)
    found = attention_maps({"plain": trace(plain, batch), "reduced": trace(reduced, batch)}, 1)
    assert found[0].cosine is None and 0 < (found[1].cosine or 0) < 1
    shown = overlay(as_pictures(plain, batch)[1], found[1].values, 0.1)
    dropped = numpy.isnan(found[1].values).ravel()[cells_of(*shown.shape[:2], found[1].values.shape)]
    assert (shown[dropped] == 0).all() and dropped.any()
