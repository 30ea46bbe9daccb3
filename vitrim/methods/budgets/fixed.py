"""Fixed budget: the same share of its tokens for every image, known before the image is."""

import math

ROUND = {"ceil": math.ceil, "floor": math.floor}


def kept_of(entering: int, share: float, rounding: str) -> int:
    """How many of `entering` tokens a share is, at least one."""
    return max(1, ROUND[rounding](share * entering))
