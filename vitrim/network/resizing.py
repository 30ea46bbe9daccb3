"""A composed model for images of another size than it was trained at."""

from dataclasses import replace

from vitrim.backbones.geometry import set_image_size
from vitrim.backbones.opening import Origin
from vitrim.backbones.shapes import shapes_only
from vitrim.backbones.structure import build, structure_digest
from vitrim.network.model import StagedViT
from vitrim.network.placing import placed


def resize_images(model: StagedViT, size: int | tuple[int, int]) -> None:
    """Change what images a model takes, in place: (height, width) or the side in pixels.

    Position embeddings and relative tables are resized as timm resizes them; reducers are attached anew, with
    what they learned, because schedules and grids follow the number of patches.

    Raises:
        ValueError: for a size that the backbone or a reducer cannot take; the model is then of no use.
    """
    pair = tuple(size) if isinstance(size, tuple | list) else (size, size)
    whole = all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in pair)
    if len(pair) != 2 or not whole:
        raise ValueError(f"image_size must be pixels or (height, width), got {size!r}")
    if pair == tuple(model.preprocess.image_size):
        return
    try:
        set_image_size(model.vit, pair)
    except AssertionError as error:  # timm's way to refuse a size that its patches do not fill
        raise ValueError(
            f"the backbone cannot take images of {pair[0]} x {pair[1]} pixels: {error}"
        ) from None
    learned = {index: part.state_dict() for index, part in placed(model)}
    for stage in model.stages:
        stage.before = stage.reducer = stage.mixing = None
        stage.proportional = False
    for method in model.methods:
        if method.reduces:
            method.attach(model)
    for index, part in placed(model):
        part.load_state_dict(learned[index])
        part.train(model.training)
    model.preprocess = replace(model.preprocess, image_size=pair)
    model.digests = {}
    model.origin = _origin_at(model.origin, pair)


def _origin_at(origin: Origin, size: tuple[int, int]) -> Origin:
    """How to make the resized backbone again."""
    moved = replace(origin, image_size=size)
    adapted = origin.in_chans is not None or origin.patch_size is not None
    if origin.architecture is None or "arguments" not in origin.architecture:
        return replace(moved, structure=None)  # given again, at this size, it is told by its weights alone
    arguments = {**origin.architecture["arguments"], "img_size": list(size)}
    architecture = {**origin.architecture, "arguments": arguments}
    with shapes_only():
        known = structure_digest(build(architecture))
    return replace(moved, architecture=architecture, structure=origin.structure if adapted else known)
