"""What compose freezes, trains and refuses."""

import pytest
import torch
from toys import images, toy

from vitrim import Adapter, DenseAdapter, EViT, LoRA, compose
from vitrim.settings.recipes import RECIPES
from vitrim.training.fitting import needs_fit


def test_only_methods_and_the_classifier_train() -> None:
    model = compose(toy(), LoRA(rank=2), Adapter(width=2))
    names = set(model.trained())
    assert {"vit.head.weight", "vit.head.bias"} < names
    assert all("terms" in name or "beside_mlp" in name or ".head." in name for name in names)
    assert len(names) == 2 + 12 * 4 + 12 * 4


def test_both_heads_of_a_distilled_model_train() -> None:
    assert set(compose(toy("distilled"), num_classes=3).trained()) == {
        f"vit.{head}.{part}" for head in ("head", "head_dist") for part in ("weight", "bias")
    }


def test_keys_of_the_backbone_do_not_move() -> None:
    vit = toy()
    before = {f"vit.{name}" for name in vit.state_dict()}
    assert before <= set(compose(vit, LoRA(), DenseAdapter(), EViT()).state_dict())


def test_a_fresh_classifier_has_the_wanted_outputs() -> None:
    model = compose(toy(), num_classes=11)
    assert model(images(model)).shape == (2, 11) and model.num_classes == 11


def test_methods_may_be_text() -> None:
    assert compose(toy(), "EViT(keep=0.5)", "LoRA").methods == (EViT(keep=0.5), LoRA())


def test_the_same_random_start_gives_the_same_model() -> None:
    torch.manual_seed(3)
    one = compose("vit_tiny_patch16_224", image_size=32)
    torch.manual_seed(3)
    other = compose("vit_tiny_patch16_224", image_size=32)
    third = compose("vit_tiny_patch16_224", image_size=32)
    weight = "blocks.0.attn.qkv.weight"
    assert torch.equal(one.vit.state_dict()[weight], other.vit.state_dict()[weight])
    assert not torch.equal(one.vit.state_dict()[weight], third.vit.state_dict()[weight])


def test_a_random_start_leaves_the_generators_of_other_devices_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is made between two steps of another on a GPU must not draw its dropout anew."""
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    torch.default_generator.manual_seed(3)
    torch.randint(2**31, ())  # the seed of the start, which is recorded
    expected = torch.rand(3)
    torch.default_generator.manual_seed(3)
    compose("vit_tiny_patch16_224")
    assert torch.equal(torch.rand(3), expected) and not seeded


REFUSED = {
    "no model 'vit_tny_patch16_224' in timm; did you mean vit_tiny_patch16_224": lambda: compose(
        "vit_tny_patch16_224"
    ),
    "ResNet is not supported": lambda: compose("resnet18"),
    "no weights file": lambda: compose("vit_tiny_patch16_224", weights="nowhere.safetensors"),
    "cannot tell from the file name": lambda: compose("my_model.safetensors"),
    "there is no block 12; the backbone has blocks 0 to 11": lambda: compose(toy(), EViT(at=(3, 12))),
    "block 6 already has a reducer (EViT); one per block": lambda: compose(toy(), EViT(), EViT(at=(6,))),
    "no class token to rank by; use score='pool' or 'received'": lambda: compose(toy("siglip"), EViT()),
    "one tuner per layer": lambda: compose(toy(), LoRA(), LoRA(roles=("key",))),
    "already has dense adapters": lambda: compose(toy(), DenseAdapter(), DenseAdapter()),
    "composed already": lambda: compose(compose(toy())),
    "is no method": lambda: compose(toy(), EViT),  # type: ignore[arg-type]
    "num_classes must be a whole number": lambda: compose(toy(), num_classes=-2),
    "image_size must be pixels": lambda: compose("vit_tiny_patch16_224", image_size=(0, 32)),
    "give one of the two": lambda: compose("vit_tiny_patch16_224", pretrained=True, weights="a.pth"),
    "a module brings its own weights": lambda: compose(toy(), pretrained=True),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_nonsense_is_refused_in_one_sentence(sentence: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        REFUSED[sentence]()
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_backbone_that_carries_methods_is_refused() -> None:
    vit = toy()
    compose(vit, LoRA())
    with pytest.raises(ValueError, match="already carries tuned layers"):
        compose(vit, Adapter())


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_name_their_source_and_advice(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.follows and recipe.advice
    patches = {"img_size": 56} if "PYRA" in repr(recipe.methods) else {}  # its schedules are for 196
    model = compose(toy(**patches), *recipe.methods)
    assert recipe.expects or needs_fit(model)  # what data chooses has no costs to promise
