"""Attention in proportion to sizes is the same with log sizes in a mask and in the heads."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from toys import images, toy

from vitrim import ToMe, compose
from vitrim.backbones import fastest, size_attention
from vitrim.backbones.size_attention import attend_by_sizes, by_channels, by_mask, with_log_sizes


def projected(width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys and values [B, H, T, d], and log sizes [B, 1, 1, T]."""
    torch.manual_seed(0)
    drawn = torch.randn(3, 2, 3, 30, width, dtype=torch.float64).to(dtype)
    return *drawn, torch.randint(1, 50, (2, 1, 1, 30)).double().log()


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("width", [16, 20])
def test_log_sizes_in_the_heads_are_a_mask(dtype: torch.dtype, within: float, width: int) -> None:
    *rows, sizes = projected(width, dtype)
    more = with_log_sizes(*rows, sizes[:, :, 0])
    assert {each.shape[-1] for each in more} == {24}
    expected = by_mask(*rows, sizes.to(dtype), 0.0)
    torch.testing.assert_close(by_channels(*rows, sizes.to(dtype), 0.0), expected, rtol=0, atol=within)
    assert not F.scaled_dot_product_attention(*more, scale=width**-0.5)[..., width:].any()


def test_in_half_precision_heads_are_no_less_exact_than_a_mask() -> None:
    *rows, sizes = projected(64, torch.bfloat16)
    expected = by_mask(*(each.double() for each in rows), sizes, 0.0)
    off = {form: (form(*rows, sizes.float(), 0.0) - expected).abs().mean() for form in (by_mask, by_channels)}
    assert off[by_channels] < 1.05 * off[by_mask]


@pytest.mark.parametrize(("seconds", "faster"), [([2.0, 1.0], "channels"), ([1.0, 2.0], "mask")])
def test_the_faster_is_found_once(seconds: list[float], faster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on CUDA, where alone there is a choice."""
    taken, known = [each for each in seconds for _ in range(fastest.TRIES)], dict[tuple[object, ...], str]()
    monkeypatch.setattr(size_attention, "_faster", known)
    monkeypatch.setattr(fastest, "seconds_of", lambda way, device: taken.pop(0))
    given = projected(16, torch.float64)
    expected = attend_by_sizes(*given)
    assert not known  # on a CPU it is the mask
    monkeypatch.setattr(size_attention, "may_fold", lambda queries: True)
    for _ in range(2):
        torch.testing.assert_close(attend_by_sizes(*given), expected, rtol=0, atol=1e-12)
    assert list(known.values()) == [faster] and not taken


def test_a_reducer_that_merges_runs_with_either(monkeypatch: pytest.MonkeyPatch) -> None:
    model, found = compose(toy("vit", depth=4), ToMe(r=9)), list[Tensor]()
    batch = images(model)
    with torch.no_grad():
        for form in ("mask", "channels"):
            known: dict[tuple[object, ...], str] = {}
            monkeypatch.setattr(size_attention, "_faster", known)
            monkeypatch.setattr(size_attention, "may_fold", lambda queries: True)
            monkeypatch.setattr(size_attention, "FORMS", {form: size_attention.FORMS[form]})
            found.append(model(batch))
            assert set(known.values()) == {form} and len(known) == 3  # all blocks behind the first
            monkeypatch.undo()
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-12)
