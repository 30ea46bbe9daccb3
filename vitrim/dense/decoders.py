"""The table of heads by name."""

from __future__ import annotations

from vitrim.dense.heads import DenseHead, LinearHead, UPerNetHead

HEADS = {"linear": LinearHead, "upernet": UPerNetHead}


def make_head(name: str, width: int, classes: int, taps: int) -> DenseHead:
    """The head of a name, for maps of so many channels and taps."""
    if isinstance(name, str) and name.startswith("smp:"):
        from vitrim.dense.borrowed import BorrowedHead

        head: DenseHead = BorrowedHead(name.removeprefix("smp:"), width, classes)
    elif name in HEADS:
        head = HEADS[name](width, classes)
    else:
        raise ValueError(
            f"head must be one of {', '.join(HEADS)}, or smp:NAME for a decoder of "
            f"segmentation-models-pytorch, got {name!r}"
        )
    if head.taps is not None and head.taps != taps:
        raise ValueError(f"head={name} reads {head.taps} taps, but {taps} were given")
    return head
