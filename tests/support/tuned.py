"""What every tuner owes its user, as checks that the tests of single tuners call."""

from pathlib import Path

import torch
from golden import Golden, assert_close
from torch import Tensor, nn
from toys import images, toy

import vitrim
from vitrim.backbones.tuned_linear import Tuned
from vitrim.network.method import Method
from vitrim.network.model import StagedViT

BLOCKS = 6  # of the toys: more show nothing more of a tuner


def backbone(family: str = "vit", seed: int = 0) -> nn.Module:
    return toy(family, seed=seed, depth=BLOCKS)


def stir(model: StagedViT, seed: int = 5) -> StagedViT:
    """Move all that trains away from its start, so that nothing added is silent. In evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.trained().values():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter.dtype)
            parameter.add_(noise / max(1, parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.1 * noise)
    return model.eval()


def stirred(method: Method | str, *others: Method | str, family: str = "vit") -> StagedViT:
    """A woken toy of the family with the method on it, also away from its start."""
    return stir(vitrim.compose(backbone(family), method, *others))


def logits(model: StagedViT) -> Tensor:
    """Of the model's own random images, without gradients."""
    with torch.no_grad():
        return model(images(model))


def check_starts_unchanged(method: Method | str, family: str = "vit") -> None:
    """Composed is the backbone itself, up to rounding."""
    with torch.no_grad():
        plain = backbone(family)(images(backbone(family)))
    model = vitrim.compose(backbone(family), method).eval()
    torch.testing.assert_close(logits(model), plain, rtol=1e-10, atol=1e-10)


def check_matters(method: Method | str, family: str = "vit") -> None:
    """Away from its start, the method changes the logits."""
    torch.manual_seed(0)
    before = vitrim.compose(backbone(family), method).eval()
    head = {name: value.clone() for name, value in before.vit.state_dict().items() if name.startswith("head")}
    start = logits(before)
    after = stir(before)
    after.vit.load_state_dict(head, strict=False)
    assert (logits(after) - start).abs().max() > 1e-3 * start.abs().max()


def check_folds(method: Method | str, *others: Method | str, family: str = "vit") -> None:
    """Merged computes the same from plain layers, on all tokens and on what the head reads."""
    model = stirred(method, *others, family=family)
    merged = vitrim.merge(model)
    assert not any(isinstance(module, Tuned) for module in merged.modules())
    assert set(merged.trained()) <= {f"vit.{name}" for name in merged.vit.state_dict() if "head" in name}
    expected = logits(model)
    torch.testing.assert_close(logits(merged), expected, rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        for each in (model, merged):
            torch.testing.assert_close(each.run(images(each))[0], expected, rtol=1e-10, atol=1e-10)
        if not others:  # timm's own forward then says the same
            torch.testing.assert_close(merged.vit(images(merged)), expected, rtol=1e-10, atol=1e-10)


def check_training(method: Method | str, *others: Method | str, family: str = "vit") -> None:
    """Every trained weight gets a gradient; after steps the frozen weights are the same bit for bit."""
    model = stirred(method, *others, family=family).train()
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    optimiser = torch.optim.AdamW(model.trained().values(), lr=1e-2, weight_decay=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        model(images(model)).square().mean().backward()
        silent = [n for n, p in model.trained().items() if p.grad is None or not p.grad.abs().sum() > 0]
        assert not silent, silent
        optimiser.step()
    assert all(torch.equal(model.get_parameter(name), value) for name, value in frozen.items())


def check_round_trip(method: Method | str, path: Path, family: str = "vit") -> None:
    """Saved without the backbone and loaded onto it, the model is the same bit for bit, and merged too."""
    model = stirred(method, family=family)
    vitrim.save(model, path / "tuned.safetensors")
    assert torch.equal(
        logits(vitrim.load(path / "tuned.safetensors", backbone=backbone(family))), logits(model)
    )
    merged = vitrim.merge(model)
    vitrim.save(merged, path / "merged.safetensors")
    again = vitrim.load(path / "merged.safetensors", backbone=backbone(family, seed=7))
    assert torch.equal(logits(again), logits(merged))


def set_values(model: StagedViT, golden: Golden, names: dict[str, str]) -> None:
    """Copy generated weights into parameters, by parameter name -> official name."""
    with torch.no_grad():
        for ours, official in names.items():
            model.get_parameter(ours).copy_(golden.weight(official))


def check_gradients(model: StagedViT, golden: Golden, names: dict[str, str]) -> None:
    """The official implementation's loss and gradients, of what trains here and of what is frozen."""
    model.requires_grad_(True)
    model.train()
    out = model(golden.images())
    assert_close(out, golden["train_logits"])
    out.square().mean().backward()
    official = {name: ours for ours, name in names.items()}
    for i, name in enumerate(golden.about["grad_names"]):
        gradient = model.get_parameter(official.get(name, f"vit.{name}")).grad
        assert gradient is not None, name
        assert_close(gradient.norm(), golden["grad_norm"][i])
        first = gradient.flatten()[:8]
        assert_close(first, golden["grad_first8"][i][: len(first)], relative=1e-8)
