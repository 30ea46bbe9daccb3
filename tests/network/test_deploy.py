"""Compositions survive what deployment and training at scale do to a model: one compiled graph, export with a
free batch size, recomputed activations. `aot_eager` compiles all but the kernels, forward and backward."""

import pytest
import torch
from torch import nn
from torch.export import Dim, export
from toys import images, toy, wake

from vitrim import compose
from vitrim.network.model import StagedViT

EVIT = "EViT(keep=0.5, at=(0, 1))"
RECEIVED = "EViT(keep=0.5, at=(0,), score='received')"
EXPORTED = [
    ("vit", (EVIT, "LoRA(rank=2)", "Adapter(width=2)", "DenseAdapter(width=2)")),
    ("distilled", (EVIT, "DenseAdapter(width=2, fusion='output')")),
    ("siglip", (RECEIVED, "Adapter(width=2)")),
    ("vit", ("ToMe(r=3)", "VPT(prompts=2)")),
    (
        "vit",
        ("VPT(prompts=2, at=(0, 1))", "LoRA(rank=2, at=(0,))", "LoRA(rank=4, at=(1,))", "Adapter(at=(1,))"),
    ),
    ("dinov3", ("Bipartite(at=(0,))", "SSF()")),
    ("vit", ("Pool(at=(1,))", "FacT(rank=2)", "Convpass(width=2, at=(0,))")),
]
COMPILED = [EXPORTED[0], ("dinov3", (EVIT, "LoRA(rank=2)", "Convpass(width=2, reduced='paint')"))]
CASES = [*EXPORTED, COMPILED[1], ("vit", ("DynamicViT(at=(1,))", "RepAdapter(width=2)"))]


def composed(family: str, methods: tuple[str, ...], dtype: torch.dtype = torch.float32) -> StagedViT:
    """Two blocks, all weights awake, evaluation mode."""
    return wake(compose(toy(family, dtype, depth=2), *methods)).eval()


@pytest.mark.parametrize(("family", "methods"), EXPORTED, ids=str)
def test_export_with_a_free_batch_size(family: str, methods: tuple[str, ...]) -> None:
    model = composed(family, methods)
    batches = [images(model, size, seed=size) for size in (3, 1, 5)]
    program = export(model, (batches[0],), dynamic_shapes=({0: Dim("batch", min=1, max=64)},)).module()
    with torch.no_grad():
        for batch in batches:
            torch.testing.assert_close(program(batch), model(batch), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("family", "methods"), COMPILED, ids=str)
def test_compiles_in_one_graph_forward_and_backward(family: str, methods: tuple[str, ...]) -> None:
    torch._dynamo.reset()
    model = composed(family, methods, torch.float64)
    batch = images(model, 3)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    expected, found = (gradients(run, model, batch) for run in (model, compiled))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("family", "methods"), CASES, ids=str)
def test_gradient_checkpointing_gives_the_same_gradients(family: str, methods: tuple[str, ...]) -> None:
    model = composed(family, methods, torch.float64)
    batch = images(model, 3)
    expected = gradients(model, model, batch)
    blocks = Calls(model.stages)
    model.set_gradient_checkpointing(True)
    found = gradients(model, model, batch)
    assert blocks.count == 2 * model.depth  # each block ran again for its backward pass
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def gradients(run: nn.Module, model: StagedViT, batch: torch.Tensor) -> dict[str, torch.Tensor | None]:
    model.zero_grad()
    run(batch).square().sum().backward()
    found = {name: None if p.grad is None else p.grad.clone() for name, p in model.trained().items()}
    assert sum(gradient is not None for gradient in found.values()) > 0
    return {name: gradient for name, gradient in found.items() if gradient is not None}


class Calls:
    """How often modules run from now on."""

    def __init__(self, modules: nn.ModuleList) -> None:
        self.count = 0
        for module in modules:
            module.register_forward_pre_hook(self.add)

    def add(self, *_: object) -> None:
        self.count += 1
