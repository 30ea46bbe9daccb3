"""Durations as training and bulk prediction say them."""

from vitrim.measuring.durations import in_units


def test_times_in_words() -> None:
    assert [in_units(seconds) for seconds in (0.2, 59.4, 75, 600, 3600, 9000, 86_399, 86_401, 270_000)] == [
        "1 s", "59 s", "1 min 15 s", "10 min", "1 h 0 min", "2 h 30 min", "23 h 59 min", "1 d 0 h", "3 d 3 h",
    ]  # fmt: skip
