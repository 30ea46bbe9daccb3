"""Looking at the token state after every block, which the model itself does not keep."""

import torch
from torch import Tensor

from vitrim.network.model import StagedViT
from vitrim.tokens.state import TokenState


def states_after_blocks(model: StagedViT, batch: Tensor) -> list[TokenState]:
    """The state that leaves each block."""
    seen: list[TokenState] = []
    hooks = [stage.register_forward_hook(lambda *given: seen.append(given[-1])) for stage in model.stages]
    with torch.no_grad():
        model.run(batch)
    for hook in hooks:
        hook.remove()
    return seen
