"""UniAdapter against the outputs of its official code, and what it promises by itself."""

import zlib

import numpy as np
import pytest
import torch
from golden import Golden, assert_close
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitrim import compose
from vitrim.retrieval.crossing import CrossModalText, padding_bias
from vitrim.retrieval.uniadapter import UniAdapter, put_on_vision

transformers = pytest.importorskip("transformers")

OURS = {  # name of the official code -> ours
    "adapter.adapter_layer_norm_before": "layers.0.norm",
    "adapter.adapter_layer_norm_cross_modal": "layers.0.norm_crossed",
    "adapter.down_proj": "layers.0.down",
    "adapter.up_proj": "layers.0.text_up",
    "adapter.multi_up_proj": "layers.0.crossed_up",
    "adapter.visual_up_proj": "layers.0.visual_up",
    "video_key_adapter.down_proj": "keys.down",
    "video_key_adapter.up_proj": "keys.up",
    "video_key_adapter": "keys",
    "video_value_adapter.down_proj": "values.down",
    "video_value_adapter.up_proj": "values.up",
    "video_value_adapter": "values",
}


def ours(name: str) -> str:
    start = next(start for start in OURS if name.startswith(start))
    return OURS[start] + name.removeprefix(start)


def value(golden: Golden, name: str) -> Tensor:
    """The README's rules of the third family."""
    constant = golden.about["constants"].get(name)
    shape = golden.about["params"][name]
    if constant is not None:
        return torch.full(shape, constant, dtype=torch.float64)
    z = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("bias"):
        return torch.from_numpy(0.1 * z)
    return torch.from_numpy(1 + 0.1 * z if len(shape) == 1 else z / np.sqrt(np.prod(shape[1:])))


@pytest.fixture(scope="module")
def case() -> tuple[Golden, CrossModalText, nn.Module]:
    """A vision block and a text layer with the case's weights."""
    golden = Golden("uniadapter_d32_r16")
    c = golden.about["config"]
    settings = transformers.BlipTextConfig(
        hidden_size=c["dim"], encoder_hidden_size=c["dim"], intermediate_size=c["dim"] * c["mlp_ratio"],
        num_hidden_layers=1, num_attention_heads=c["num_heads"], vocab_size=11, max_position_embeddings=40,
        layer_norm_eps=c["text_ln_eps"], bos_token_id=1, sep_token_id=2, eos_token_id=2,
    )  # fmt: skip
    text = CrossModalText(transformers.BlipTextModel(settings, add_pooling_layer=False), enc_token=3)
    vit = VisionTransformer(
        img_size=12, patch_size=4, embed_dim=c["dim"], depth=1, num_heads=c["num_heads"], num_classes=0
    )
    vision = compose(vit, num_classes=0).double().eval()
    adapters = text.double().eval().add_uniadapter(UniAdapter(c["bottleneck"], c["kv_bottleneck"]))
    put_on_vision(vision, adapters)
    layers = {"text_layer.": text.layers[0], "vit_block.": vision.vit.blocks[0]}
    for start, layer in layers.items():
        names = [name for name in golden.about["params"] if name.startswith(start)]
        layer.load_state_dict({name.removeprefix(start): value(golden, name) for name in names})
    names = [name for name in golden.about["params"] if not name.startswith(tuple(layers))]
    adapters.load_state_dict({ours(name): value(golden, name) for name in names})
    return golden, text, vision


def inputs(golden: Golden) -> tuple[Tensor, Tensor, Tensor]:
    c = golden.about["config"]
    g = np.random.default_rng(golden.about["input_seed"])
    seen = torch.from_numpy(g.standard_normal((c["B"], c["visual_tokens"], c["dim"])))
    read = torch.from_numpy(g.standard_normal((c["B"], c["text_tokens"], c["dim"])))
    mask = torch.arange(c["text_tokens"])[None] < torch.tensor(c["text_lengths"])[:, None]
    return seen, read, padding_bias(mask, torch.float64)


def outputs(golden: Golden, text: CrossModalText, vision: nn.Module) -> dict[str, Tensor]:
    from vitrim.tokens.state import TokenState

    seen, read, bias = inputs(golden)
    adapters = text.uniadapter
    assert adapters is not None
    ((keys, values),) = text.keys_values(seen)
    state = TokenState.start(seen, 1, (3, 3))
    places = vision.begin(torch.zeros(1, 3, 12, 12, dtype=torch.float64))[1]
    return {
        "adapter_visual": adapters.layer(0).visual(seen),
        "adapter_text": adapters.layer(0).text(seen),
        "adapter_multimodal": adapters.layer(0).crossed(seen),
        "key_map": adapters.keys(seen),
        "value_map": adapters.values(seen),
        "vit_block": vision.stages[0](vision.vit.blocks[0], state, places[0], None).tokens,
        "text_layer_text": text.text_layer(0, read, bias),
        "text_layer_multimodal": text.crossed_layer(0, read, bias, keys, values, None),
    }


def test_outputs_and_gradients_are_those_of_the_official_code(case: tuple) -> None:
    golden, text, vision = case
    found = outputs(golden, text, vision)
    width = golden.about["config"]["dim"]
    u = torch.from_numpy(np.random.default_rng(777).standard_normal(width) / np.sqrt(width))
    for name, tensor in found.items():
        if name in golden:
            assert_close(tensor, golden[name], 1e-12)
        else:
            assert_close(tensor @ u, golden[f"{name}_proj"], 1e-12)
            assert_close(tensor[:, 0, :8], golden[f"{name}_first8"], 1e-12)
            assert_close(tensor[:, -1, :8], golden[f"{name}_last8"], 1e-12)
    loss = sum(
        found[name].square().mean() for name in ("vit_block", "text_layer_text", "text_layer_multimodal")
    )
    assert_close(loss, golden["loss"], 1e-12)
    parameters = dict(text.uniadapter.named_parameters())
    names = golden.about["grad_names"]
    gradients = torch.autograd.grad(loss, [parameters[ours(name)] for name in names])
    for index, gradient in enumerate(gradients):
        assert abs(gradient.norm() - golden["grad_norm"][index]) <= 1e-10 * max(
            1e-2, golden["grad_norm"][index]
        )
        first = gradient.flatten()[:8]
        assert (first - golden["grad_first8"][index][: len(first)]).abs().max() < 1e-12
