"""Frame numbers: the official ones row by row, and what must hold of all."""

import json
import random

import pytest
from golden import FOLDER
from hypothesis import given
from hypothesis import strategies as st

from vitrim.data.clips.indices import frame_indices

SIZES = {"frames": st.integers(1, 400), "length": st.integers(1, 20), "stride": st.integers(0, 20)}


class Lowest:
    def randint(self, a, b):
        return a


class Highest:
    def randint(self, a, b):
        return b


def test_all_rows_of_the_official_samplers():
    rows = json.loads((FOLDER / "frame_indices_dyt.json").read_text())["rows"]
    assert len(rows) == 360
    extremes = {"train_low": Lowest(), "train_high": Highest()}
    for frames, length, stride, mode, views, view, indices in rows:
        rng = extremes.get(mode)
        found = frame_indices(frames, length, stride, mode.partition("_")[0], view, views, rng)
        assert found == tuple(indices), (frames, length, stride, mode, views, view)


@given(**SIZES, seed=st.integers(0, 9))
def test_drawn_frames_are_there_in_order_and_repeatable(frames, length, stride, seed):
    found = frame_indices(frames, length, stride, "train", rng=random.Random(seed))
    assert len(found) == length and found[0] >= 0 and found[-1] < frames
    assert list(found) == sorted(found)
    assert found == frame_indices(frames, length, stride, "train", rng=random.Random(seed))


@given(**SIZES, views=st.integers(1, 5))
def test_views_go_from_the_first_to_the_last_frame(frames, length, stride, views):
    found = [frame_indices(frames, length, stride, "test", view, views) for view in range(views)]
    for view in found:
        assert len(view) == length and view[0] >= 0 and view[-1] < frames and list(view) == sorted(view)
    assert [view[0] for view in found] == sorted(view[0] for view in found)
    if stride and views > 1:
        assert found[0][0] == 0 and found[-1][-1] == frames - 1


@given(frames=st.integers(1, 40), length=st.integers(2, 20), stride=st.integers(1, 20))
def test_a_short_video_repeats_a_frame_at_the_end(frames, length, stride):
    """In test its last one; in training the last that the stride reaches from the first frame."""
    reach = (length - 1) * stride
    if frames <= reach:
        assert frame_indices(frames, length, stride)[-1] == frames - 1
        drawn = frame_indices(frames, length, stride, "train", rng=random.Random(0))
        assert drawn[-1] == (frames - 1) // stride * stride


def test_every_start_and_both_ends_of_a_segment_are_drawn():
    rng = random.Random(0)
    starts = {frame_indices(12, 3, 4, "train", rng=rng)[0] for _ in range(200)}
    assert starts == {0, 1, 2, 3}
    drawn = {frame_indices(9, 2, 0, "train", rng=rng) for _ in range(500)}
    assert {first for first, _ in drawn} == {0, 1, 2, 3, 4} and {last for _, last in drawn} == {4, 5, 6, 7, 8}


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ((0, 8, 4), "at least 1"),
        ((5, 8, -1), "stride at least 0"),
        ((5, 8, 4, "val"), "train, with a generator, or test"),
        ((5, 8, 4, "train"), "train, with a generator, or test"),
        ((5, 8, 4, "test", 2, 2), "below views"),
    ],
)
def test_what_cannot_be_is_said(asked, sentence):
    with pytest.raises(ValueError, match=sentence):
        frame_indices(*asked)
