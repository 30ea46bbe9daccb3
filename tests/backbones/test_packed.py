"""Packed batches of many image sizes (timm's NaFlex): one batch says what its images say one by one."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from timm.data.naflex_transforms import patchify_image
from torch import Tensor
from toys import MORE_FAMILIES, toy, wake

import vitrim
from vitrim import REDUCERS, DynamicViT, EViT, ToMe, compose

NAFLEX = [name for name in MORE_FAMILIES if name.startswith("naflex")]
PACKED = [name for name in NAFLEX if name != "naflex-convolution"]
SIZES = ((32, 32), (16, 40), (24, 12), (16, 40), (8, 8), (44, 20))  # pixels, in patches of 4


def pictures(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, *size, generator=generator, dtype=torch.float64) for size in SIZES]


def pack(pictures: list[Tensor], extra: int = 0) -> dict[str, Tensor]:
    """As timm's collator makes it: the longest decides, and `extra` more; what lies in the padding is
    noise."""
    made = [patchify_image(picture, (4, 4)) for picture in pictures]
    longest = max(len(patches) for patches, _, _ in made) + extra
    generator = torch.Generator().manual_seed(9)
    batch = {
        "patches": torch.randn(len(made), longest, 48, generator=generator, dtype=torch.float64),
        "patch_coord": torch.zeros(len(made), longest, 2, dtype=torch.long),
        "patch_valid": torch.zeros(len(made), longest, dtype=torch.bool),
    }
    for index, parts in enumerate(made):
        for target, part in zip(batch.values(), parts, strict=True):
            target[index, : len(part)] = part
    return batch


def difference(ours: Tensor, reference: Tensor) -> float:
    return ((ours - reference).abs().max() / reference.abs().max()).item()


def reducer(name: str, model: Any) -> Any:
    """The method with settings that fit the backbone."""
    return REDUCERS[name].example(model) if name != "ToMe" else ToMe(r=2)


def wake_trained(model: Any) -> None:
    for parameter in model.trained().values():
        with torch.no_grad():
            parameter.add_(0.1 * wake(torch.nn.ParameterList([parameter.clone()]), 3)[0])


def one_by_one(model: Any, pictures: list[Tensor]) -> Tensor:
    return torch.cat([model(picture[None]) for picture in pictures])


@pytest.mark.parametrize("family", PACKED)
def test_a_packed_batch_is_timm_s(family: str) -> None:
    vit: Any = toy(family)
    model = compose(vit).eval()
    batch = pack(pictures(), extra=3)
    with torch.no_grad():
        reference = vit(batch)
        assert difference(model(batch), reference) <= 1e-12
        logits, state = model.run(batch)
        assert difference(logits, reference) <= 1e-12
        assert state.padding is not None and state.padding.counts == (64, 40, 18, 40, 4, 55)
        assert difference(one_by_one(model, pictures()), reference) <= 1e-6  # timm resizes places in float32
        for method in (ToMe(r=0), replace(reducer("EViT", model), keep=1.0)):
            assert difference(compose(vit, method).eval()(batch), reference) <= 1e-12


@pytest.mark.parametrize("family", PACKED)
@pytest.mark.parametrize("name", ["EViT", "DynamicViT", "ToMe", "Bipartite", "Pool"])
def test_reducing_a_packed_batch_is_reducing_one_by_one(name: str, family: str) -> None:
    vit = toy(family, depth=4)
    model = compose(vit, reducer(name, compose(vit))).eval()
    wake_trained(model)
    parts = [picture for picture in pictures() if name != "Pool" or picture.shape[1:] != (44, 20)]
    with torch.no_grad():
        expected = one_by_one(model, parts)
        for extra in (0, 5):
            batch = pack(parts, extra)
            found = model(batch)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)  # places are resized in float32
            logits, state = model.run(batch)
            torch.testing.assert_close(logits, found, rtol=0, atol=1e-10)
            assert state.padding is not None
            for index, picture in enumerate(parts):
                alone = model.run(picture[None])[1]
                assert state.padding.counts[index] == alone.count
                own = alone.source.shape[1]
                assert torch.equal(state.source[index, :own], alone.source[0])
                assert (state.source[index, own:] == -1).all()
                assert torch.equal(state.sizes[index, : alone.count], alone.sizes[0])


def test_reducers_see_the_whole_attention_of_the_images_of_one_grid() -> None:
    model = compose(toy("naflex-average"), EViT(keep=0.5, at=(1,), score="received")).eval()
    seen: list[Any] = []
    model.stages[1].reducer.register_forward_hook(lambda module, given, after: seen.append(given))
    with torch.no_grad():
        model(pack(pictures()))
    assert sorted(len(state.tokens) for state, _ in seen) == [1, 1, 1, 1, 2]
    for state, attended in seen:
        total = state.tokens.shape[1]
        assert attended.values.shape == attended.keys.shape == attended.queries.shape
        assert attended.keys.shape[::2] == (len(state.tokens), total)
        assert attended.key_bias.shape == (len(state.tokens), 1, 1, total)
        mixed = attended.whole() @ attended.values
        assert mixed.shape == attended.values.shape and not attended.key_bias.any()  # nothing is padding


@pytest.mark.parametrize(
    "methods",
    [
        ("LoRA", "EViT"),
        ("VPT", "ToMe"),
        ("DenseAdapter", "Bipartite"),
        ("SSF",),
        ("SynQT", "ToMe"),
        ("ResTuning", "EViT"),
    ],
)
def test_tuned_packed_batches_train_as_one_by_one(methods: tuple[str, ...]) -> None:
    vit = toy("naflex-average")
    parts = [vitrim.TUNERS[methods[0]](), *(reducer(name, compose(vit)) for name in methods[1:])]
    torch.manual_seed(0)
    model = compose(vit, *parts)
    wake_trained(model)
    gradients = []
    for logits in (model(pack(pictures())), one_by_one(model, pictures())):
        model.zero_grad()
        logits.square().sum().backward()
        gradients.append([p.grad.clone() for p in model.trained().values() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 0
    for together, apart in zip(*gradients, strict=True):
        assert torch.isfinite(together).all()
        if apart.abs().max() < 1e-15:  # what is added to all keys of a softmax: rounding alone
            assert together.abs().max() < 1e-15
            continue
        torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5 * apart.abs().max().item())


def test_what_cannot_be_packed_is_refused() -> None:
    batch = pack(pictures())
    vit = toy("naflex-average")
    for methods, words in (
        (("LTMP(at=(1,))",), "as many tokens as each image needs"),
        (("Convpass()",), "Bypass of block 0 reads all patches of one grid"),
        (("DyT()",), "counts the patches"),
    ):
        with pytest.raises(ValueError, match=words):
            compose(vit, *methods).eval()(batch)
    with pytest.raises(ValueError, match="learns in training"):
        compose(vit, DynamicViT(at=(1,))).train()(batch)
    with pytest.raises(ValueError, match="on one grid for all images"):
        compose(vit, EViT(at=(1,), score="received")).run(batch, history=True)
    with pytest.raises(ValueError, match="only NaFlexViT with linear patches takes packed"):
        compose(toy("vit"))(batch)
    with pytest.raises(ValueError, match="only NaFlexViT with linear patches takes packed"):
        compose(toy("naflex-convolution"))(batch)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attn_mask": torch.zeros(1)}, "masks are made from patch_valid"),
        ({"patch_valid": torch.zeros(6, 64)}, "the patches of image 0 are not a whole grid"),
        ({"patch_valid": torch.ones(6, 64)}, "the patches of image 1 are not a whole grid"),
        ({"patch_coord": torch.zeros(6, 64, 2, dtype=torch.long)}, "image 0 are not a whole grid"),
        ({"patch_valid": torch.ones(6, 63)}, r"patch_valid \[B, N\]; got"),
        ({"patches": torch.zeros(6, 64, 47)}, "have 48 values each, got 47"),
    ],
)
def test_damaged_packed_batches_are_refused(change: dict[str, Tensor], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compose(toy("naflex-average"))(pack(pictures()) | change)
