"""Dense adapters: three fusions against independent implementations, the released network, restart."""

import pytest
import torch
from golden import Golden, assert_close
from timm import create_model
from toys import images, toy, wake

from vitrim import DenseAdapter, EViT, compose
from vitrim.backbones.shapes import shapes_only
from vitrim.network.model import StagedViT

OFFICIAL = {0: 1, 1: 2, 3: 3}  # blocks back -> number in the official parameter names


def golden_model(fusion: str) -> tuple[Golden, StagedViT]:
    golden = Golden(f"paper_da_{fusion}_6l_r5")
    options = golden.about["options"]
    model = compose(golden.backbone(), DenseAdapter(options["r"], fusion), EViT(0.5, (1, 3))).eval()
    with torch.no_grad():
        for index, stage in enumerate(model.stages):
            branch = stage.beside_mlp[0]
            for kind, layers in (("down", branch.down), ("up", branch.up)):
                for distance, layer in zip([0, *branch.reads], layers, strict=False):
                    name = f"blocks.{index}.adapter.{kind}{OFFICIAL[distance]}"
                    layer.weight.copy_(golden.weight(f"{name}.weight"))
                    layer.bias.copy_(golden.weight(f"{name}.bias"))
    return golden, model


@pytest.mark.parametrize("fusion", ["inner", "input", "output"])
def test_outputs_with_token_reduction(fusion):
    golden, model = golden_model(fusion)
    with torch.no_grad():
        assert_close(model(golden.images()), golden["logits"])
        logits, state = model.run(golden.images())
    assert_close(logits, golden["logits"])
    last = len(model.stages) - 1
    assert_close(state.tokens[:, -1, :8], golden[f"block{last}.toklast"])


COUNTS = {
    ("vit_base_patch16_224", "DenseAdapter(width=8)"): 279_808,
    ("vit_base_patch16_224", "DenseAdapter(width=32)"): 1_091_584,
    ("vit_base_patch16_224", "DenseAdapter(width=128)"): 4_338_688,
    ("vit_base_patch16_224", "DenseAdapter(width=32, fusion='input')"): 599_424,
    ("vit_base_patch16_224", "DenseAdapter(width=32, fusion='output')"): 1_598_464,
    ("vit_base_patch16_224", "DenseAdapter(width=32, follows='release')"): 1_314_432,
    ("vit_large_patch16_224", "DenseAdapter(width=32, restart=12)"): 2 * ((44 * 32 + 12) * 1024 + 32 * 32),
}


@pytest.mark.parametrize(("backbone", "text"), COUNTS)
def test_parameter_counts(backbone, text):
    with shapes_only():
        model = compose(create_model(backbone, num_classes=0), text)
    assert sum(parameter.numel() for parameter in model.trained().values()) == COUNTS[backbone, text]


def test_restart_forgets_earlier_blocks():
    model = wake(compose(toy(), DenseAdapter(width=4, restart=6)))
    assert [stage.beside_mlp[0].reads for stage in model.stages] == 2 * [
        (),
        (1,),
        (1,),
        (1, 3),
        (1, 3),
        (1, 3),
    ]
    memories = [stage.beside_mlp[0].memory for stage in model.stages]
    assert memories == 2 * [3, 3, 3, 3, 3, 0]  # nothing is carried on where nothing will read it
    assert model.run(images(model))[1].trail == ()


def released_by_hand(model: StagedViT, batch: torch.Tensor) -> torch.Tensor:
    """The released forward pass, written out for a backbone without reduction."""
    vit = model.vit
    tokens = vit._pos_embed(vit.patch_embed(batch))
    embedded, outputs = tokens, []
    for index, block in enumerate(vit.blocks):
        tokens = tokens + block.attn(block.norm1(tokens))
        outputs.append(model.stages[index].beside_mlp[0].adapt(tokens))
        tokens = tokens + block.mlp(block.norm2(tokens)) + outputs[-1]
        if index == 2:
            tokens = tokens + embedded + sum(outputs[0:3])
        elif index in (5, 8):
            tokens = tokens + sum(outputs[index - 2 : index + 1])
        elif index == 11:
            tokens = tokens + outputs[9] + outputs[10]
    return vit.head(vit.norm(tokens)[:, 0])


def test_the_released_network_sums_by_threes():
    model = wake(compose(toy(), DenseAdapter(width=4, follows="release"))).eval()
    batch = images(model)
    with torch.no_grad():
        assert_close(model(batch), released_by_hand(model, batch), 1e-12)
        assert_close(model.run(batch)[0], released_by_hand(model, batch), 1e-12)


def test_the_released_network_with_reduction_keeps_sums_aligned():
    """A reduction in the middle of three blocks moves the sum with the tokens: both forward paths agree."""
    model = wake(compose(toy(), DenseAdapter(width=4, follows="release"), EViT(0.5, (1, 4, 7)))).eval()
    with torch.no_grad():
        logits, state = model.run(images(model))
        assert_close(model(images(model)), logits, 1e-12)
    assert state.tokens.shape[1] == 1 + 10  # 64 -> 33 -> 18 -> 10


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"fusion": "mean"}, "fusion must be one of"),
        ({"reads": (1, 1)}, "reads names a distance twice"),
        ({"reads": (0,)}, "reads must be a whole number of at least 1"),
        ({"restart": 0}, "restart must be a whole number of at least 1"),
        ({"follows": "release", "fusion": "output"}, "leave fusion, reads and restart"),
    ],
)
def test_what_cannot_be_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        DenseAdapter(**settings)


@pytest.mark.parametrize("follows", ["paper", "release"])
def test_two_sets_of_dense_adapters_are_refused(follows):
    with pytest.raises(ValueError, match="already has dense adapters"):
        compose(toy(), DenseAdapter(), DenseAdapter(follows=follows))
