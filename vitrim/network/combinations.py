"""Rules that need the whole composition: checked once, after every method is attached."""

from typing import TYPE_CHECKING

from vitrim.backbones.tuned_linear import Tuned
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
    _check_masked(model, methods)
    _check_side_stream(model, methods)


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


def _check_masked(model: "StagedViT", methods: tuple[Method, ...]) -> None:
    """Refuse keys beside an attention whose softmax is masked while a reducer learns."""
    for index, stage in enumerate(model.stages):
        if stage.mixing is not None and len(stage.after_mixing):
            names = ", ".join(map(repr, methods))
            raise ValueError(
                f"block {index} attends through learned masks, whose softmax no keys can be put beside; "
                f"leave out one of {names}, or use ResTuning(form='adapter')"
            )


def _check_side_stream(model: "StagedViT", methods: tuple[Method, ...]) -> None:
    """Refuse weights that train inside the backbone while the head reads a side stream: no gradient reaches
    them."""
    if model.side is None:
        return
    beside = [*model.behind_blocks(), model.side, *(stage.aside for stage in model.stages)]
    known = {id(parameter) for part in beside for parameter in part.parameters()}
    inside = [name for name, parameter in model.trained().items() if id(parameter) not in known]
    inside += [f"what {part.by} adds" for part in model.vit.blocks.modules() if isinstance(part, Tuned)]
    if inside:
        own = next(method for method in methods if _owns(method, model))
        others = ", ".join(repr(method) for method in methods if method is not own)
        others = others or "the model's own input"
        raise ValueError(
            f"{own} leaves the backbone without gradients, so {inside[0]} would never train; leave out what "
            f"trains inside the backbone (of {others})"
        )


def _owns(method: Method, model: "StagedViT") -> bool:
    name = type(method).__name__
    return name in model.shared and model.shared[name] is model.side
