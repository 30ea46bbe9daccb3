"""One place that starts Accelerate: CPU, one GPU, or many processes under `accelerate launch`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator


def start_accelerator(precision: str = "no", accumulate: int = 1, cpu: bool = False) -> Accelerator:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if precision == "fp16" and (cpu or not torch.cuda.is_available()):
        raise ValueError("precision='fp16' needs a GPU; use 'bf16' or 'no' on the CPU")
    # Accelerate keeps its settings for the whole process: a second run could not choose another precision.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    return Accelerator(mixed_precision=precision, gradient_accumulation_steps=accumulate, cpu=cpu)


def pick_device(device: str | None) -> torch.device:
    """The device asked for, or the GPU where there is one."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError):
        raise ValueError(f"device {device!r} cannot be used on this machine; use cpu") from None
    return chosen
