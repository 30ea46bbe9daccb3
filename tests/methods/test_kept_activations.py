"""What autograd keeps for the backward pass: nothing that only frozen weights would need."""

import pytest
import torch
from toys import toy

from vitrim import compose

BATCH, PATCHES, WIDTH = 8, 64, 96
TOKENS = BATCH * (PATCHES + 1) * WIDTH * 4  # bytes of one [B, T, D]

# In units of [B, T, D] for a whole block: norms keep their inputs (2), attention its queries, keys, values
# and output (4), the activation its input (4). What the tuner's own layers read comes on top.
NEEDED = 10
KEPT = {
    "Adapter(width=8)": NEEDED,  # its input is the second norm's
    "LoRA(rank=8)": NEEDED + 1,  # the first norm's output
    "DenseAdapter(width=8)": NEEDED + 1,  # an output of its own, which the next blocks read
    "VPT(prompts=1)": NEEDED,
    "BitFit()": NEEDED,
    "Full()": NEEDED + 1 + 1 + 4,  # what qkv, fc1 and fc2 read; the output layer reads attention's output
}


def kept_bytes(model: torch.nn.Module, images: torch.Tensor) -> int:
    own = {weight.untyped_storage().data_ptr() for weight in (*model.parameters(), images)}
    storages: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(images).sum().backward()
    return sum(storages.values())


def kept_by_blocks(text: str, depth: int) -> float:
    vit = toy(dtype=torch.float32, embed_dim=WIDTH, depth=depth, num_heads=3)
    model = compose(vit, text).train()
    return kept_bytes(model, torch.randn(BATCH, 3, 32, 32)) / TOKENS


@pytest.mark.parametrize("text", KEPT)
def test_a_block_keeps_what_its_tuner_needs(text):
    """The difference of two depths is what one more block keeps; the slack is for bottlenecks."""
    per_block = (kept_by_blocks(text, 7) - kept_by_blocks(text, 5)) / 2
    assert KEPT[text] <= per_block < KEPT[text] + 0.3


def test_nothing_is_kept_before_the_first_weight_that_trains():
    """The classifier alone: only its own input. A tuner in the last block only: not the blocks before."""
    assert kept_by_blocks("Linear()", 6) < 0.1
    only_last = kept_by_blocks("Convpass(at=(5,), beside='mlp')", 6)
    assert only_last < NEEDED


def test_token_reduction_cuts_what_is_kept():
    model = toy(dtype=torch.float32, embed_dim=WIDTH, depth=6, num_heads=3)
    images = torch.randn(BATCH, 3, 32, 32)
    whole = kept_bytes(compose(model, "Adapter(width=8)").train(), images)
    model = toy(dtype=torch.float32, embed_dim=WIDTH, depth=6, num_heads=3)
    reduced = kept_bytes(compose(model, "Adapter(width=8)", "EViT(keep=0.5, at=(1,))").train(), images)
    assert reduced < 0.7 * whole
