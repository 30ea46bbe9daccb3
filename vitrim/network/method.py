"""What a method is: settings in a frozen dataclass, and `attach`, which plugs its mechanics into a model.

One notation everywhere: `EViT(keep=0.7, at=(3, 6, 9))` is the Python expression, the command-line argument,
the log line and the entry in a saved file. Settings that most users leave alone are marked `option(...)` and
are shown only when they were changed.
"""

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from vitrim.network.stage import StagedViT


@dataclass(frozen=True, repr=False)
class Method:
    """Base of every tuner and reducer.

    Attributes:
        folds: whether `merge` leaves nothing of it, because all it adds folds into plain layers.
        trains_own: whether it changes the weights the backbone came with, which a high rate would undo.
    """

    folds: ClassVar[bool] = False
    trains_own: ClassVar[bool] = False

    def attach(self, model: "StagedViT") -> None:
        """Plug this method into a model whose own weights are frozen; whatever is added with `requires_grad`
        trains."""
        raise NotImplementedError

    def __repr__(self) -> str:
        shown = (
            f for f in fields(self) if not f.metadata.get("option") or getattr(self, f.name) != f.default
        )
        return f"{type(self).__name__}({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in shown)})"


def option(default: Any) -> Any:
    """A setting that is left out of the method's text while it has its default."""
    return field(default=default, metadata={"option": True})


def store_setting(method: Method, name: str, value: Any) -> None:
    """Replace a setting by its normal form in `__post_init__` of a frozen dataclass."""
    object.__setattr__(method, name, value)
