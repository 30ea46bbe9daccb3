"""What tells frames apart: a vector added to all tokens of a frame, nothing at the start."""

import torch
from torch import Tensor, nn

WAVELENGTH = 10_000.0


class LearnedTimes(nn.Module):
    """A vector for each frame of a clip, zero at the start."""

    def __init__(self, frames: int, width: int, like: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(like.new_zeros(frames, width))

    def forward(self, frames: int) -> Tensor:
        """[T, D]"""
        if frames != len(self.table):
            raise ValueError(
                f"the clips have {frames} frames, but the temporal embedding was learned for "
                f"{len(self.table)}; give clips of {len(self.table)} frames, or take temporal_embed='sincos'"
            )
        return self.table


class WaveTimes(nn.Module):
    """Sines and cosines of the frame's number, by a learned scale for each channel that starts at zero; for
    any number of frames."""

    def __init__(self, width: int, like: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(like.new_zeros(width))

    def forward(self, frames: int) -> Tensor:
        """[T, D]"""
        return waves(frames, len(self.scale), self.scale) * self.scale


def waves(frames: int, width: int, like: Tensor) -> Tensor:
    """sin and cos of t / 10000^(i / half) for frame t, sines first. [T, D]"""
    half = (width + 1) // 2
    rates = WAVELENGTH ** (-torch.arange(half, device=like.device, dtype=torch.float64) / half)
    angles = torch.arange(frames, device=like.device, dtype=torch.float64)[:, None] * rates  # [T, D/2]
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width].to(like.dtype)
