"""LoRA's training step in one operator: the gradients of a layer and its terms one by one."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.func import functional_call, grad, vmap

from vitrim import compose
from vitrim.backbones import tuned_linear
from vitrim.network.model import StagedViT

EVERY = ("query", "key", "value", "attention_out", "mlp_in", "mlp_out")
FORMS = [
    ("LoRA(rank=2)",),
    ("LoRA(rank=3, scale=0.5, roles=('key', 'value'))", "BitFit()"),
    (f"LoRA(rank=2, alpha=3.0, roles={EVERY!r})",),
    ("LoRA(rank=2, roles=('query', 'key', 'value'), shared=True)", "EViT(keep=0.7, at=(1,))"),
    ("LoRA(rank=2, bits=2, at=(1, 2))",),
]


def model(methods: tuple[str, ...], dtype: torch.dtype = torch.float64) -> StagedViT:
    torch.manual_seed(0)
    vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=2, num_classes=3)
    found = compose(vit, *methods).to(dtype).train()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return found


def images(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=dtype)


def step(made: StagedViT, given: Tensor) -> list[Tensor]:
    """Logits and all gradients."""
    given = given.clone().requires_grad_()
    logits = made(given)
    logits.float().square().sum().backward()
    grads = [parameter.grad for parameter in made.trained().values()]
    found = [logits.detach(), given.grad, *grads]
    made.zero_grad()
    assert all(each is not None for each in found)
    return [each for each in found if each is not None]


def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuned_linear, "trains_in_one_step", lambda: False)


@pytest.mark.parametrize("methods", FORMS, ids=str)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_same_gradients(
    methods: tuple[str, ...], checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = model(methods)
    made.set_gradient_checkpointing(checkpointing)
    ran = []
    own = tuned_linear.summed
    monkeypatch.setattr(tuned_linear, "summed", lambda *given: ran.append(1) or own(*given))
    found = step(made, images())
    assert ran
    one_by_one(monkeypatch)
    for one, other in zip(found, step(made, images()), strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


def test_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """As near to float32 as the layer and its terms one by one are."""
    made = model(("LoRA(rank=4)",), torch.float32)
    exact = step(made, images(torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        found = step(made, images(torch.float32))
        one_by_one(monkeypatch)
        usual = step(made, images(torch.float32))
    for one, other, right in zip(found, usual, exact, strict=True):
        assert one.dtype == other.dtype
        assert (one - right).norm() <= 1.5 * (other - right).norm() + 4e-3 * right.norm()


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_dropout_hooks_and_transforms_go_the_usual_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuned_linear, "summed", None)  # which would fail
    step(model(("LoRA(rank=2, dropout=0.5)",)), images())
    made, seen = model(("LoRA(rank=2)",)), []
    for module in made.modules():
        if isinstance(module, torch.nn.Linear) and module.in_features == 2:
            module.register_forward_hook(lambda *given: seen.append(given))
    step(made, images())
    assert len(seen) == 6
    plain = model(("LoRA(rank=2)",))

    def loss(weights: dict[str, Tensor], image: Tensor) -> Tensor:
        return functional_call(plain, weights, image[None]).square().sum()

    weights = {name: value.detach() for name, value in plain.trained().items()}
    each = vmap(grad(loss), in_dims=(None, 0))(weights, images())
    assert all(len(value) == 3 for value in each.values())
