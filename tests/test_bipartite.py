"""FPET's matching: golden outputs and gradients, colours of any grid, no token lost in any precision, refusals."""

import numpy as np
import pytest
import torch
from golden import Golden, assert_close, projection
from toys import FAMILIES, images, toy
from torch import Tensor, nn

from vitrim import Adapter, Bipartite, EViT, LoRA, ToMe, compose, parse_method
from vitrim.method import Method
from vitrim.placing import placed
from vitrim.reducers.matching import alternate, checkerboard, merge_all, merge_all_softly, similarity, unit
from vitrim.stage import StagedViT
from vitrim.state import TokenState, regroup

CASES = ("fpet_none_dim64_img64", "fpet_lora_b32_d8_img64", "fpet_adaptformer_b1_d32_img64_noprop")


def official_model(golden: Golden) -> tuple[StagedViT, dict[str, nn.Parameter]]:
    """The case composed from our methods with its weights loaded, and our parameters by official name."""
    h = golden.about["hyper"]
    tuner: tuple[Method, ...] = ()
    if h["peft"] == "lora":
        tuner = (LoRA(rank=h["dim"], scale=h["scale"]),)
    elif h["peft"] == "adaptformer":
        tuner = (Adapter(width=h["dim"], scale=h["scale"], bias=False, bits=h["bit"]),)
    model = compose(golden.backbone(), *tuner, Bipartite(at=h["r_layer"], proportional=h["prop_attn"]))
    model = model.double()
    ours = dict(model.named_parameters())
    parameters = {name: ours[our_name(name, list(ours))] for name in golden.about["params"]}
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(golden.weight(name))
    return model.eval(), parameters


def our_name(official: str, ours: list[str]) -> str:
    if f"vit.{official}" in ours:
        return f"vit.{official}"
    block = official.split(".")[1]
    end = "down.weight" if "adapter_down" in official else "up.weight"
    kinds = {
        "refinement": ("stages", "reducer"),
        "adapter_mlp": ("stages", "beside_mlp"),
        "lora_q": ("blocks", "query"),
        "lora_v": ("blocks", "value"),
    }
    parts = next(parts for kind, parts in kinds.items() if kind in official)
    found = [n for n in ours if f"{parts[0]}.{block}." in n and parts[1] in n and n.endswith(end)]
    assert len(found) == 1, (official, found)
    return found[0]


@pytest.mark.parametrize("name", CASES)
def test_logits_tokens_sizes_and_matches_are_those_of_the_release(name):
    golden = Golden(name)
    model, _ = official_model(golden)
    block = golden.about["hyper"]["r_layer"]
    seen, states = {}, []
    model.stages[block].reducer.register_forward_hook(
        lambda module, given, _: seen.update(given=given, by=module)
    )
    for stage in model.stages:
        stage.register_forward_hook(lambda module, given, state: states.append(state))
    with torch.no_grad():
        assert_close(model(golden.images()), golden["logits"])
        states.clear()
        logits, state = model.run(golden.images())
    assert_close(logits, golden["logits"])
    assert_close(state.sizes, golden["size"][:, 1:])
    for index, after in enumerate(states):
        assert_close(projection(after.tokens), golden[f"block{index}_proj"])
    entering, attended = seen["given"]
    a, b = checkerboard(entering.position, entering.grid)
    assert torch.equal(a[0] + 1, golden["a_index"]) and torch.equal(b[0] + 1, golden["b_index"][1:])
    with torch.no_grad():
        keys = seen["by"].refine(attended.patch_keys())
    u = torch.from_numpy(np.random.default_rng(777).standard_normal(keys.shape[-1]))
    assert_close(keys @ (u / keys.shape[-1] ** 0.5), golden["refined_metric_proj"][:, 1:])
    best = similarity(unit(keys), a, b).topk(2, dim=-1)
    assert_close(best.indices[..., 0] + 1, golden["assign_top1"])
    assert_close(best.indices[..., 1] + 1, golden["assign_top2"])
    assert_close(best.values[..., 0], golden["top1_score"])
    assert_close(best.values[..., 1], golden["top2_score"])


@pytest.mark.parametrize("name", CASES)
def test_training_loss_and_every_gradient_are_those_of_the_release(name):
    golden = Golden(name)
    model, parameters = official_model(golden)
    model.train().requires_grad_(True)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    logits = model(golden.images())
    logits.square().mean().backward()
    assert_close(logits.detach(), golden["train_logits"])
    assert_close(logits.square().mean().detach(), golden["train_loss"])
    gradients = [parameters[official].grad for official in golden.about["grad_names"]]
    assert_close(torch.stack([gradient.norm() for gradient in gradients]), golden["grad_norm"])
    for gradient, norm, first in zip(gradients, golden["grad_norm"], golden["grad_first8"], strict=True):
        ours = torch.nn.functional.pad(gradient.flatten()[:8], (0, max(0, 8 - gradient.numel())))
        assert (ours - first).abs().max() <= 1e-9 * norm
