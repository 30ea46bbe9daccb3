"""Values that are worked out when they are first read: what nobody reads costs nothing.

A reduction changes where every patch is and how many patches a token stands for. Pictures, rotary tables,
pools and proportional attention read some of it; a plain forward pass reads none. So each reduction notes
what would have to be done, and reading a field does all that was noted.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor


class Later:
    """A tensor to be: a function and what it is to be given, tensors or other such values."""

    def __init__(self, function: Callable[..., Tensor], *given: Any) -> None:
        self.function = function
        self.given: tuple[Any, ...] = given
        self.found: Tensor | None = None

    def value(self) -> Tensor:
        """The tensor, worked out once."""
        if self.found is None:
            self.found = self.function(*(known(each) for each in self.given))
            self.given = ()  # what it was made from may go
        return self.found


def known(value: Any) -> Any:
    """The value itself, worked out if it has not been."""
    return value.value() if isinstance(value, Later) else value


class Worked:
    """A field of a dataclass that takes a tensor or a `Later` and gives a tensor."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Tensor:
        if instance is None:
            raise AttributeError(self.name)  # so that the field has no default
        value = instance.__dict__[self.name]
        found: Tensor = value.value() if isinstance(value, Later) else value
        return found

    def __set__(self, instance: Any, value: "Tensor | Later") -> None:
        instance.__dict__[self.name] = value
