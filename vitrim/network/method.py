"""What a method is: settings in a frozen dataclass, and `attach`, which plugs its mechanics into a model.

One notation everywhere: `EViT(keep=0.7, at=(3, 6, 9))` is the Python expression, the command-line argument,
the log line and the entry in a saved file. Settings that most users leave alone are marked `option(...)` and
are shown only when they were changed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from vitrim.checks import block_indices

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT


@dataclass(frozen=True, repr=False)
class Method:
    """Base of every tuner and reducer.

    Attributes:
        folds: whether `merge` leaves nothing of it, because all it adds folds into plain layers.
        reduces: whether it makes the sequence of tokens shorter, and so is a reducer; the others are tuners.
        starts_unchanged: whether a model with it computes what it did without, until something has trained.
        proposed: whether plans offer it.
        without: settings of other methods that one may look for here, and why there are none.
        trains_own: whether it changes the weights the backbone came with, which a high rate would undo.
    """

    folds: ClassVar[bool] = False
    reduces: ClassVar[bool] = False
    starts_unchanged: ClassVar[bool] = True
    proposed: ClassVar[bool] = True
    trains_own: ClassVar[bool] = False
    without: ClassVar[Mapping[str, str]] = {}

    def __new__(cls, *values: object, **settings: object) -> Self:
        """Any other keyword that is no setting is Python's to refuse."""
        for name in settings:
            refuse_absent(cls, name)
        return super().__new__(cls)

    def attach(self, model: "StagedViT") -> None:
        """Plug this method into a model whose own weights are frozen; whatever is added with `requires_grad`
        trains."""
        raise NotImplementedError

    def first_blocks(self, count: int, depth: int) -> "Method | None":
        """The same where only the first `count` of `depth` blocks are left; None where nothing of it is."""
        at = getattr(self, "at", None)
        if not isinstance(at, tuple):
            return self
        kept = tuple(block for block in at if block < count)
        changes: dict[str, Any] = {"at": kept}
        return replace(self, **changes) if kept else None

    def after_folding(self) -> Self | None:
        """What is left of it in a merged model: all, or nothing where it folds; some methods fold in part."""
        return None if self.folds else self

    @classmethod
    def example(cls, model: "StagedViT") -> Self:
        """An instance that fits a bare backbone, small or large: what the planner and the contract suites
        try. This one has the defaults, with `at` spread over the blocks there are; a method that needs more
        (other settings without a class token, fewer tokens to merge) says so in its own.
        """
        method = cls()
        at = getattr(method, "at", None)
        changes: dict[str, Any] = {"at": spread(at, model.depth)} if isinstance(at, tuple) else {}
        return replace(method, **changes)

    def __repr__(self) -> str:
        return settings_text(self)


def refuse_absent(kind: type, name: str | None) -> None:
    """Refuse a setting of other methods that one may look for in this one; written as text or in Python."""
    reasons: Mapping[str | None, str] = getattr(kind, "without", {})
    if name in reasons:
        raise ValueError(f"{kind.__name__} has no setting {name!r}: {reasons[name]}")


def settings_text(settings: Any) -> str:
    """A frozen dataclass in the one notation: its name and settings, options only where they were changed."""
    shown = (
        f for f in fields(settings) if not f.metadata.get("option") or getattr(settings, f.name) != f.default
    )
    return f"{type(settings).__name__}({', '.join(f'{f.name}={getattr(settings, f.name)!r}' for f in shown)})"


def spread(at: Iterable[int], depth: int) -> tuple[int, ...]:
    """Block indices meant for 12 blocks at the same share of another depth, never in the last block.

    >>> spread((3, 6, 9), 24)
    (6, 12, 18)
    """
    return tuple(sorted({min(index * depth // 12, max(depth - 2, 0)) for index in at}))


def owners(methods: Sequence[Method], setting: str) -> list[int]:
    """Which methods have a setting; where it belongs to the text of some and is a mere option of others, as
    `at` is of EViT and of LoRA, those of the former."""
    having = {
        index: field
        for index, method in enumerate(methods)
        for field in fields(method)
        if field.name == setting
    }
    shown = [index for index, field in having.items() if not field.metadata.get("option")]
    return shown or list(having)


def option(default: Any) -> Any:
    """A setting that is left out of the method's text while it has its default."""
    return field(default=default, metadata={"option": True})


def store_blocks(method: Any) -> None:
    """Check the setting `at` of a method that stands in all blocks unless told otherwise: None, or block
    indices in their normal form."""
    if method.at is not None:
        store_setting(method, "at", block_indices(type(method).__name__, method.at))


def store_setting(method: Method, name: str, value: Any) -> None:
    """Replace a setting by its normal form in `__post_init__` of a frozen dataclass."""
    object.__setattr__(method, name, value)
