"""Rules that need the whole composition: checked once, after every method is attached."""

from typing import TYPE_CHECKING

from vitrim.network.method import Method

if TYPE_CHECKING:
    from vitrim.network.model import StagedViT

# Two methods that do not go together, and why
EXCLUSIVE = {
    ("VPT", "Convpass"): "prompts have no cell on the grid that its convolutions read",
    ("NOAH", "Convpass"): "prompts have no cell on the grid that its convolutions read",
}


def check_composition(model: "StagedViT", methods: tuple[Method, ...]) -> None:
    """Raise ValueError, naming the methods, where two of them cannot work together."""
    by_name = {type(method).__name__: method for method in methods}
    for (one, other), reason in EXCLUSIVE.items():
        if one in by_name and other in by_name:
            raise ValueError(
                f"{by_name[one]} does not go with {by_name[other]}: {reason}; leave out one of them"
            )
    _check_grids(model)


def _check_grids(model: "StagedViT") -> None:
    """Refuse a branch that reads the whole grid of patches behind a reducer, which breaks it."""
    broken: str | None = None
    for index, stage in enumerate(model.stages):
        halves = ((stage.before, stage.beside_attention), (stage.reducer, stage.beside_mlp))
        for reducer, branches in halves:
            if reducer is not None and broken is None:
                broken = f"{reducer.by} reduces the tokens in block {index}"
            if broken is not None and any(branch.needs_grid for branch in branches):
                raise ValueError(
                    f"{broken}, so Convpass finds no grid to convolve in block {index}; "
                    "give Convpass only the blocks before (at=...), or set reduced='paint'"
                )
