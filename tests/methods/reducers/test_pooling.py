"""Pool: which patches are pooled, what stays true of them, and where it may stand."""

import pytest
import torch
from torch.nn import functional as F
from toys import images, toy

from vitrim import EViT, Pool, ToMe, compose
from vitrim.methods.reducers.pooling import windows
from vitrim.network.stage import Reducer
from vitrim.tokens.state import TokenState


def pooled(method: Pool, grid: tuple[int, ...], tokens: torch.Tensor) -> TokenState:
    """The method's step alone, on given tokens."""
    model = compose(toy("vit", depth=2), method)
    (at,) = method.at
    reducer = model.stages[at].reducer
    assert isinstance(reducer, Reducer)
    return reducer(TokenState.start(tokens, 1, grid), None)


@pytest.mark.parametrize("window", [(1, 2), (2, 2), (3, 3)])
@pytest.mark.parametrize("grid", [(8, 8), (6, 10), (5, 7)])
def test_equals_two_dimensional_pooling(window: tuple[int, int], grid: tuple[int, int]) -> None:
    tokens = torch.randn(2, 1 + grid[0] * grid[1], 24, dtype=torch.float64)
    image = tokens[:, 1:].transpose(1, 2).unflatten(2, grid)
    average = F.avg_pool2d(image, window, ceil_mode=True).flatten(2).transpose(1, 2)
    maximum = F.max_pool2d(image, window, ceil_mode=True).flatten(2).transpose(1, 2)
    for kind, expected in (("avg", average), ("max", maximum)):
        state = pooled(Pool(at=1, kind=kind, window=window), grid, tokens)
        torch.testing.assert_close(state.tokens[:, 1:], expected)
        assert torch.equal(state.tokens[:, :1], tokens[:, :1])
        assert state.sizes.sum() == 2 * grid[0] * grid[1]


def test_an_odd_last_column_stays_single() -> None:
    assert windows((2, 3), (1, 2)) == [[0, 1], [2], [3, 4], [5]]
    assert windows((2, 2, 2), (2, 2)) == [[0, 1, 2, 3], [4, 5, 6, 7]]  # frames are pooled apart
    tokens = torch.randn(1, 7, 24, dtype=torch.float64)
    state = pooled(Pool(at=1), (2, 3), tokens)
    assert torch.equal(state.tokens[:, 2], tokens[:, 3])
    assert state.sizes.tolist() == [[2, 1, 2, 1]]
    assert state.source.tolist() == [[0, 0, 1, 2, 2, 3]]


def test_later_blocks_weigh_by_size() -> None:
    model = compose(toy(), Pool(at=6))
    assert [stage.proportional for stage in model.stages] == [False] * 7 + [True] * 5
    off = compose(toy(), Pool(at=6, proportional=False))
    assert not any(stage.proportional for stage in off.stages)
    assert not torch.allclose(model(images(model)), off(images(off)))


def test_equal_neighbours_pool_without_loss() -> None:
    """Twins are exactly represented by their average of size two, as long as attention weighs it double."""
    model, plain = compose(toy("vit", depth=3), Pool(at=0)), compose(toy("vit", depth=3))
    for composed in (model, plain):
        with torch.no_grad():
            table = composed.vit.pos_embed
            table[:, 2::2] = table[:, 1::2]
    batch = images(model)
    batch = batch[..., :4].repeat(1, 1, 1, 8)
    with torch.no_grad():
        torch.testing.assert_close(model(batch), plain(batch), rtol=0, atol=1e-12)


@pytest.mark.parametrize("methods", [(EViT(at=2), Pool(at=6)), (Pool(at=6), EViT(at=2))])
def test_a_reducer_before_it_is_named(methods: tuple) -> None:
    with pytest.raises(
        ValueError, match="block 6 needs the full grid of patches, but EViT at block 2 reduces it"
    ):
        compose(toy(), *methods)


def test_the_other_way_round_is_fine() -> None:
    model = compose(toy(), Pool(at=2), ToMe(r=[0] * 6 + [4]), EViT(at=9))
    assert model.run(images(model))[1].count == 20 + 1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"kind": "mean"}, "kind must be one of 'avg', 'max', got 'mean'"),
        ({"window": 1}, "a window of one cell pools nothing"),
        ({"window": (2, 2, 2)}, r"window must be \(rows, columns\) or one number"),
        ({"at": (3, 3)}, "names a block twice"),
    ],
)
def test_refusals(settings: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Pool(**settings)
