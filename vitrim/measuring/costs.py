"""What a composition costs: multiply-accumulates, parameters, tokens. Counted from shapes, without images.

One multiply-accumulate counts as one, as in the papers, which call it FLOP; counters that call it two print
twice these numbers. Convolutions, linear layers and matrix products count one for each multiply-accumulate,
LayerNorm five for each element; softmax, activations, additions, biases and moving tokens count nothing.
These are fvcore's rules. Two figures follow them:

    gmacs        what `model(images)` runs for one image: head, scoring, matching and fusing included, the
                 last block only as far as the head reads it.
    gmacs_paper  what the official implementations run: no head, every block whole, the attention's output
                 projected before the reduction, scores read off the attention matrix for nothing, matching as
                 the papers define it.

Of a video model both are for one view of one clip, all its frames and their pooling; a test with several
views costs that often as much. The papers' figures for video include the head.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitrim.measuring.counting import MacCounter, counting, without_values
from vitrim.network.bucketed import varies
from vitrim.network.model import StagedViT
from vitrim.network.stage import Reducer
from vitrim.tokens.attended import Attended
from vitrim.tokens.state import TokenState
from vitrim.video.model import VideoModel

CLASSIFIERS = ("head", "head_dist")  # timm's names


@dataclass(frozen=True)
class Costs:
    """What one image costs, or one view of a clip, and what the model holds.

    Attributes:
        macs: multiply-accumulates of `model(images)` for one image or view.
        macs_paper: the same in the papers' convention.
        blocks: the part of `macs` each block takes; the rest is embedding, final norm and head.
        tokens: how many tokens leave each block, prefix and prompts included; of a clip, for each frame.
        trained: parameters that train, the classifier included.
        trained_head: of these, the classifier's, which papers leave out.
        total: all parameters.
        image_size: (height, width) this was counted for.
        trained_pooling: of those that train, what pools the frames of clips; papers leave it out too.
        frames: of a clip; None for images.
        by_image: how many tokens an image keeps depends on it: the figures are at the mean counts that were
            asked for, see `vitrim.costs_on_images` (of LTMP, as if nothing were removed).
    """

    macs: int
    macs_paper: int
    blocks: tuple[int, ...]
    tokens: tuple[int, ...]
    trained: int
    trained_head: int
    total: int
    image_size: tuple[int, int]
    trained_pooling: int = 0
    frames: int | None = None
    by_image: bool = False

    @property
    def gmacs(self) -> float:
        """Billions of multiply-accumulates, as executed."""
        return self.macs / 1e9

    @property
    def gmacs_paper(self) -> float:
        """Billions of multiply-accumulates, in the papers' convention."""
        return self.macs_paper / 1e9

    @property
    def trained_share(self) -> float:
        """The trained part of all parameters, 0 to 1."""
        return self.trained / self.total


@torch.inference_mode(False)  # in it, layers reach the counter whole and count nothing
def costs(model: StagedViT, image_size: int | tuple[int, int] | None = None) -> Costs:
    """Count what a composed model costs for one image, by default of the size it was composed for.

    Models composed under `torch.device("meta")` take no memory and cost the same:

    >>> with torch.device("meta"):
    ...     model = compose("vit_base_patch16_224", EViT(keep=0.7, at=(3, 6, 9)))
    >>> round(costs(model).gmacs_paper, 4), costs(model).tokens[-1]
    (11.6217, 72)

    Raises:
        ValueError: for an image size the backbone cannot take, or a model that `compose` did not make.
    """
    if not isinstance(model, StagedViT):
        raise ValueError(
            f"costs needs a composed model, got {type(model).__name__}; call vitrim.compose first"
        )
    size = _pixels(model, image_size)
    twin = without_values(model)
    images = _one_image(twin, size)
    executed, blocks = _as_executed(twin, images)
    paper, tokens = _as_in_papers(twin, images)  # second: changes the twin
    trained = list(model.trained().values())
    classifier = {id(weight) for head in _classifiers(model) for weight in head.parameters()}
    pools = model.over_time() if isinstance(model, VideoModel) else ()
    return Costs(
        macs=executed,
        macs_paper=paper,
        blocks=blocks,
        tokens=tokens,
        trained=sum(weight.numel() for weight in trained),
        trained_head=sum(weight.numel() for weight in trained if id(weight) in classifier),
        total=sum(weight.numel() for weight in model.parameters()),
        image_size=size,
        trained_pooling=sum(w.numel() for part in pools for w in part.parameters() if w.requires_grad),
        frames=model.frames if isinstance(model, VideoModel) else None,
        by_image=varies(model),
    )


def paper_macs(model: StagedViT, *, spend: bool = False) -> int:
    """`costs(model).macs_paper` alone, in half the time: for searches over many compositions.

    Args:
        model: what `compose` made.
        spend: count on the model itself, which must be on the meta device and cannot be run afterwards:
            without its copy it takes half of the time again.
    """
    return paper_macs_and_tokens(model, spend=spend)[0]


@torch.inference_mode(False)
def paper_macs_and_tokens(model: StagedViT, *, spend: bool = False) -> tuple[int, tuple[int, ...]]:
    """`macs_paper` and `tokens` of `costs(model)` alone."""
    twin = model.eval() if spend else without_values(model)
    return _as_in_papers(twin, _one_image(twin))


@torch.inference_mode(False)
def executed_macs(model: StagedViT) -> tuple[int, tuple[int, ...]]:
    """`macs` and `blocks` of `costs(model)` alone."""
    twin = without_values(model)
    return _as_executed(twin, _one_image(twin))


def _one_image(twin: StagedViT, size: tuple[int, int] | None = None) -> Tensor:
    """What the twin runs on, without values as it is."""
    like = next(twin.vit.parameters())
    return torch.empty(1, *twin.input_shape(size), dtype=like.dtype, device=like.device)


def _as_executed(twin: StagedViT, images: Tensor) -> tuple[int, tuple[int, ...]]:
    """Multiply-accumulates of the forward pass, and of each block in it."""
    counter = MacCounter()
    names = [f"block {index}" for index in range(twin.depth)]
    for stage, name in zip(twin.stages, names, strict=True):
        counter.name(stage, name)
    with counting(counter):
        twin(images)
    return counter.total, tuple(counter.parts[name] for name in names)


def _as_in_papers(twin: StagedViT, images: Tensor) -> tuple[int, tuple[int, ...]]:
    """Multiply-accumulates of official, unfused implementations, and the tokens leaving each block."""
    counter = MacCounter()
    declared: list[int] = []  # by each reducer
    tokens: list[int] = []  # by each block

    def declare(reducer: Reducer, given: tuple[TokenState, Attended]) -> None:
        state, attended = given
        width, head_width = state.tokens.shape[-1], attended.queries.shape[-1]
        each = reducer.matching_macs(state.prefix, state.count, width, head_width)
        declared.append(len(state.tokens) * each)  # of a clip, every frame is matched alone

    for head in () if isinstance(twin, VideoModel) else _classifiers(twin):
        counter.name(head, "left out")
    for stage in twin.stages:
        stage.register_forward_hook(lambda _, __, state: tokens.append(state.tokens.shape[1]))
        if isinstance(stage.reducer, Reducer):
            stage.reducer.commutes = False  # the official code projects every token, then reduces
            counter.name(stage.reducer, "left out")
            stage.reducer.register_forward_pre_hook(declare)
    with counting(counter):
        twin.run(images)
    return counter.total - counter.parts["left out"] + sum(declared), tuple(tokens)


def _classifiers(model: StagedViT) -> list[nn.Module]:
    return [getattr(model.vit, name) for name in CLASSIFIERS if hasattr(model.vit, name)]


def _pixels(model: StagedViT, given: int | tuple[int, int] | None) -> tuple[int, int]:
    """The image size as (height, width); whether the backbone can take it is for its forward pass to say."""
    if given is None:
        return model.preprocess.image_size
    size = (given, given) if isinstance(given, int) else tuple(given)
    if (
        len(size) != 2
        or not all(isinstance(side, int) and side > 0 for side in size)
        or isinstance(given, bool)
    ):
        raise ValueError(f"image_size must be pixels or (height, width), got {given!r}")
    return size[0], size[1]
