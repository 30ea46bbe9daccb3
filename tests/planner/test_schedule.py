"""Schedules found on images: within the budget, by the spacing rules, and no worse than a rule of thumb."""

from functools import partial

import pytest
import torch
from toys import images, toy

from vitrim import EViT, compose, parse_method
from vitrim.planner.schedule import schedules, table


def composed(methods, depth=8):
    return compose(toy("vit", depth=depth, dtype=torch.float32), *methods).eval()


@pytest.fixture(scope="module")
def found():
    batch = images(composed(()), batch=12)
    return schedules(composed, [(batch[:6], torch.arange(6) % 5), (batch[6:], torch.arange(6) % 5)], 0.85)


def test_the_greedy_schedule_is_an_ordinary_composition_within_the_budget(found) -> None:
    greedy = found[0].method
    assert found[0].name == "greedy" and parse_method(repr(greedy)) == greedy
    assert 0.8 < found[0].share <= 0.85
    assert greedy.at[0] >= 3 and greedy.at[-1] < 7
    assert all(after - before >= 2 for before, after in zip(greedy.at, greedy.at[1:], strict=False))
    assert len(greedy.keep) == len(greedy.at)


def test_it_stands_beside_the_placements_of_tr_pts(found) -> None:
    names = [each.name for each in found]
    assert names[0] == "greedy" and set(names) >= {"dense", "random"}  # the sparsest block may be the last
    assert all(0.8 < each.share <= 0.851 for each in found)
    assert all(isinstance(each.method.keep, float) and each.lost > 0 for each in found[1:])
    assert found[0].lost <= min(each.lost for each in found[1:]) + 0.02
    lines = table(found).splitlines()[1:]
    assert all(repr(each.method) in line for each, line in zip(found, lines, strict=False))
    assert "sparse" in table(found[:1]) and "no share comes down to that" in table(found[:1])


def test_measured_loss_is_the_attention_that_leaves(found) -> None:
    method = EViT(keep=0.5, at=(4,))
    model, batch = composed((method,)), images(composed(()), batch=12)
    from vitrim.planner.schedule import _measured

    got = _measured("one", method, composed, [(batch, None)], 1).lost
    rows = model.run(batch, attention=True)[1].attention[4].mean(1)[:, 0, 1:]
    rows = rows / rows.sum(1, keepdim=True)
    assert got == pytest.approx(1 - rows.topk(32).values.sum(1).mean().item(), abs=1e-5)


def test_what_cannot_be_is_refused() -> None:
    batch = [(images(composed(())), torch.arange(2))]
    with pytest.raises(ValueError, match="no schedule comes down to that"):
        schedules(partial(composed, depth=5), batch, 0.1)
    with pytest.raises(ValueError, match="budget must be above 0"):
        schedules(composed, batch, 0)
