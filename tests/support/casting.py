"""Models that the suites want thousands of times: built once, cast again and again."""

import io
import pickle
from typing import Any

import torch
from torch import Tensor, nn


class Mould:
    """A module from which others of the same values are cast, each with weights of its own: a seventh of the
    time of building it, or of `copy.deepcopy`, which visits every empty dictionary of hooks."""

    def __init__(self, model: nn.Module) -> None:
        held, written = _Held(), io.BytesIO()
        pickler = pickle.Pickler(written, protocol=pickle.HIGHEST_PROTOCOL)
        pickler.persistent_id = held.number  # type: ignore[method-assign]
        pickler.dump(model)
        self.tensors, self.rest = held.tensors, written.getvalue()

    def cast(self) -> Any:
        """Another one."""
        made: dict[int, Tensor] = {}

        def tensor(number: int) -> Tensor:
            if number not in made:
                made[number] = _another(self.tensors[number])
            return made[number]

        unpickler = pickle.Unpickler(io.BytesIO(self.rest))
        unpickler.persistent_load = tensor  # type: ignore[method-assign]
        return unpickler.load()


class _Held:
    """The tensors of a module, each once however often it is shared."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.numbers: dict[int, int] = {}

    def number(self, value: object) -> int | None:
        if not isinstance(value, torch.Tensor):
            return None
        if id(value) not in self.numbers:
            self.numbers[id(value)] = len(self.tensors)
            self.tensors.append(value)
        return self.numbers[id(value)]


def _another(tensor: Tensor) -> Tensor:
    copied = tensor.detach().clone()
    return nn.Parameter(copied, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copied
