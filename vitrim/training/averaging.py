"""The running mean of what trains (EMA), measured and saved in place of the weights of the last step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class RunningMean:
    """torch's `AveragedModel` over the trained weights alone. With no decay it does nothing."""

    def __init__(self, trained: Sequence[nn.Parameter], decay: float | None) -> None:
        self.trained = list(trained)
        self.mean: AveragedModel | None = None
        if decay is not None:
            self.mean = AveragedModel(
                nn.ParameterList(self.trained), multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=False
            )

    def update(self) -> None:
        """Take in the weights after a step."""
        if self.mean is not None:
            self.mean.update_parameters(nn.ParameterList(self.trained))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model have the mean for a while."""
        if self.mean is None:
            yield
            return
        own = [weight.detach().clone() for weight in self.trained]
        self._put(list(self.mean.module.parameters()))
        try:
            yield
        finally:
            self._put(own)

    def take_over(self) -> None:
        """Let the model have the mean for good."""
        if self.mean is not None:
            self._put(list(self.mean.module.parameters()))

    def state(self) -> dict[str, Any] | None:
        return None if self.mean is None else self.mean.state_dict()

    def restore(self, state: dict[str, Any] | None) -> None:
        if self.mean is not None and state is not None:
            self.mean.load_state_dict(state)

    @torch.no_grad()
    def _put(self, values: Sequence[Tensor]) -> None:
        for weight, value in zip(self.trained, values, strict=True):
            weight.copy_(value)
