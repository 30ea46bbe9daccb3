"""Options in YAML, from --config or one by one, within bounds: nine lines must not fill the memory."""

from collections.abc import Callable
from dataclasses import dataclass

import yaml
from jsonargparse import get_loader, set_loader

from vitrim.checks import check_yaml


def bound_yaml() -> None:
    """Have the option parser look before it reads; doing so twice changes nothing."""
    if not isinstance(usual := get_loader("yaml"), BoundedYaml):
        set_loader("yaml", BoundedYaml(usual), exceptions=(yaml.YAMLError,))


@dataclass(frozen=True)
class BoundedYaml:
    """The option parser's own reading of YAML, after a look at what the text would unfold into."""

    read: Callable[[str], object]

    def __call__(self, text: str) -> object:
        try:
            check_yaml(text, "the YAML given")
        except ValueError as error:
            raise yaml.YAMLError(str(error)) from error
        return self.read(text)
