"""DyT: decisions and logits of the released code, masked = gathered, the rate that is learned, experts."""

import pytest
import torch
from golden import Golden, assert_close
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm import create_model
from torch.nn import functional as F
from toys import images, toy, wake

from vitrim import DyT, EViT, ToMe, compose, costs, load, save
from vitrim.backbones.shapes import shapes_only
from vitrim.methods.tuners.dyt import complete_model_loss
from vitrim.network.model import StagedViT


def golden_model() -> tuple[Golden, StagedViT]:
    golden = Golden("dyt_eval_d8_s0.1")
    config = golden.config
    model = compose(golden.backbone(), DyT(config["ffn_num"], scale=config["adapter_scale"])).eval()
    with torch.no_grad():
        for index, stage in enumerate(model.stages):
            adapter, router = stage.beside_mlp[0].adapter, stage.dispatch.router
            layers = {"adaptmlp.down_proj": adapter.down, "adaptmlp.up_proj": adapter.up}
            layers["mlp_token_select.mlp_head"] = router
            for name, layer in layers.items():
                layer.weight.copy_(golden.weight(f"blocks.{index}.{name}.weight"))
                layer.bias.copy_(golden.weight(f"blocks.{index}.{name}.bias"))
    return golden, model


def test_decisions_and_logits_are_those_of_the_released_code():
    golden, model = golden_model()
    with torch.no_grad():
        assert_close(model(golden.images()), golden["logits"])
        logits, state = model.run(golden.images())
        complete, penalty = model.forward_with_penalty(golden.images(), complete=True)
    assert_close(logits, golden["logits"])
    assert_close(logits, golden["logits_speed_model"])
    assert torch.equal(torch.stack(state.dispatched, 1).double(), golden["token_select"])
    assert_close(state.tokens[:, -1, :8], golden["block5.toklast"])
    assert_close(complete, golden["logits_complete_model"])
    assert penalty is None


@pytest.mark.parametrize("family", ["vit", "dinov2-registers", "siglip", "eva02", "dinov3"])
def test_gathering_equals_masking_where_images_pick_different_numbers(family, monkeypatch):
    model = wake(compose(toy(family), DyT(width=4), ToMe(r=2)), seed=3).eval()
    batch = images(model, batch=3)
    with torch.no_grad():
        logits, state = model.run(batch)
        assert_close(model(batch), logits, 1e-12)
        counts = torch.stack([passes.sum(1) for passes in state.dispatched])
        assert (counts[:, 0] != counts[:, 1]).any()
        assert_close(torch.cat([model(image[None]) for image in batch]), logits, 1e-12)
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        assert_close(model(batch), logits, 1e-12)


def test_an_exported_model_has_no_shape_that_depends_on_the_image():
    model = wake(compose(toy(depth=2), DyT(width=4))).eval()
    with torch.no_grad():
        exported = torch.export.export(model, (images(model),)).module()
        other = images(model, seed=9)
        assert_close(exported(other), model(other), 1e-12)


def test_no_patch_and_every_patch_may_pass():
    model = compose(toy(), DyT(width=4)).eval()
    batch = images(model)
    for bias in (-100.0, 100.0):
        with torch.no_grad():
            for stage in model.stages:
                stage.dispatch.router.bias.fill_(bias)
            logits, state = model.run(batch)
            assert_close(model(batch), logits, 1e-12)
        assert state.dispatched[0].float().mean() == (bias > 0)
    assert_close(logits, model.vit(batch), 1e-12)  # all pass and the adapters start silent


def test_training_draws_the_rate_to_its_target_through_every_router():
    model = compose(toy(), DyT(width=4, rate=0.25), EViT(0.7, (4,)))
    model.train()
    batch = images(model)
    routers = [stage.dispatch.router for stage in model.stages]
    optimizer = torch.optim.Adam([p for router in routers for p in router.parameters()], lr=0.2)
    for step in range(30):
        _, penalty = model.forward_with_penalty(batch)
        optimizer.zero_grad()
        penalty.backward()
        assert all(router.weight.grad.abs().sum() > 0 for router in routers) or step
        optimizer.step()
    assert penalty < 2 * 0.1**2
    shares = torch.stack([passes.mean() for passes in model.run(batch)[1].dispatched])
    assert set(model.run(batch)[1].dispatched[0].unique().tolist()) == {0.0, 1.0}
    assert abs(shares.mean() - 0.25) < 0.1


def test_noise_is_logistic_and_gradients_pass_straight_through():
    torch.manual_seed(0)
    from vitrim.methods.tuners.dyt import noisy_decision

    logits = torch.full((100_000,), 1.0, dtype=torch.float64, requires_grad=True)
    hard = noisy_decision(logits, 5.0)
    hard.sum().backward()
    assert abs(hard.mean() - torch.sigmoid(torch.tensor(1.0))) < 0.01  # P(logit + noise > 0)
    assert (logits.grad > 0).all() and logits.grad.max() <= 0.05  # sigmoid' / 5


def test_the_complete_model_loss_is_cross_entropy_plus_divergence_to_a_constant():
    golden, model = golden_model()
    labels = torch.tensor([1, 4])
    logits = model(golden.images())
    loss = complete_model_loss(model, golden.images(), labels, logits)
    complete = golden["logits_complete_model"].float()
    target = complete.softmax(-1)
    divergence = (target * (target.log() - golden["logits"].float().log_softmax(-1))).sum(-1).mean()
    assert_close(loss, F.cross_entropy(complete, labels) + divergence, 1e-5)
    (through_student,) = torch.autograd.grad(loss, logits)
    assert_close(through_student, (golden["logits"].float().softmax(-1) - target).double() / 2, 1e-4)


def experts(mix: str) -> StagedViT:
    return wake(compose(toy(), DyT(width=4, experts=3, scale=0.5, mix=mix))).eval()


@pytest.mark.parametrize("mix", ["weights", "outputs"])
def test_experts_go_the_short_way_in_the_last_block(mix):
    model = experts(mix)
    assert model.stages[-1].beside_mlp[0].reads_all == (mix == "weights")
    with torch.no_grad():
        assert_close(model(images(model)), model.run(images(model))[0], 1e-12)


def test_experts_mix_weights_for_each_image():
    model = experts("weights")
    with torch.no_grad():
        branch = model.stages[3].beside_mlp[0]
        _, state = model.run(images(model))
        shares = branch.shares(state)
        down, up = (
            torch.einsum("be,erd->brd", shares, branch.down),
            torch.einsum("be,edr->bdr", shares, branch.up),
        )
        hidden = (state.tokens @ down.mT + (shares @ branch.down_bias)[:, None]).relu()
        expected = hidden @ up.mT + (shares @ branch.up_bias)[:, None]
        assert_close(branch(state, state.tokens)[0], 0.5 * expected, 1e-12)


def test_experts_mix_outputs_for_each_token():
    """Every expert run as the adapter it is, and a softmax over experts at every token by itself."""
    model = experts("outputs")
    with torch.no_grad():
        branch = model.stages[3].beside_mlp[0]
        _, state = model.run(images(model))
        expected = torch.zeros_like(state.tokens)
        for image, tokens in enumerate(state.tokens):
            for place, token in enumerate(tokens):
                shares = branch.token_router(token).softmax(0)
                for share, down, low, up, high in zip(
                    shares, branch.down, branch.down_bias, branch.up, branch.up_bias, strict=True
                ):
                    expected[image, place] += share * (up @ (down @ token + low).relu() + high)
        assert_close(branch(state, state.tokens)[0], 0.5 * expected, 1e-12)


def test_with_one_expert_chosen_both_mixes_are_its_adapter():
    weights, outputs = experts("weights"), experts("outputs")
    taken = {name.replace("beside_mlp.0.router", "beside_mlp.0.token_router"): value
             for name, value in weights.state_dict().items()}  # fmt: skip
    outputs.load_state_dict(taken)
    batch = images(weights)
    with torch.no_grad():
        assert not torch.allclose(weights(batch), outputs(batch), rtol=1e-3)
        for first, second in zip(weights.stages, outputs.stages, strict=True):
            for router in (first.beside_mlp[0].router, second.beside_mlp[0].token_router):
                router.bias.copy_(torch.tensor([0.0, 500.0, 0.0]))
        assert_close(weights(batch), outputs(batch), 1e-12)


def test_a_file_with_one_share_an_image_for_outputs_is_not_read_as_one_a_token(tmp_path):
    """Earlier versions mixed outputs so; their files name the router otherwise and are refused."""
    model = experts("outputs")
    save(model, tmp_path / "model.safetensors")
    assert torch.equal(
        load(tmp_path / "model.safetensors", backbone=toy())(images(model)), model(images(model))
    )
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        about = file.metadata()
    tensors = {
        name.replace("token_router", "router"): value
        for name, value in load_file(tmp_path / "model.safetensors").items()
    }
    save_file(tensors, tmp_path / "earlier.safetensors", metadata=about)
    with pytest.raises(ValueError, match="does not fit its own composition"):
        load(tmp_path / "earlier.safetensors", backbone=toy())


def test_costs_of_experts_mixed_by_output_are_those_of_the_paper_arithmetic():
    """N=4 at width 64: three more adapters at every token, .70 G, and the shares: router and biases."""
    found = {}
    for settings in ({}, {"experts": 4}, {"experts": 4, "mix": "outputs"}):
        with shapes_only():
            model = compose(create_model("vit_base_patch16_224", num_classes=0), DyT(width=64, **settings))
        found[settings.get("mix", str(len(settings)))] = costs(model).macs_paper
    adapters, shares = 12 * 197 * 3 * 2 * 768 * 64, 12 * 197 * 2 * 768 * 4
    assert found["outputs"] - found["0"] == adapters + shares
    assert adapters / 1e9 == pytest.approx(0.70, abs=0.005)
    assert 0 < found["1"] - found["0"] < 0.01e9  # mixing weights costs next to nothing


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("DyT(width=8)", 165_996),
        ("DyT(width=64)", 1_198_860),
        ("DyT(width=64, experts=4)", 4_804_668),
        ("DyT(width=64, experts=4, mix='outputs')", 4_804_668),
    ],
)
def test_parameter_counts_on_vit_base(text, count):
    with shapes_only():
        model = compose(create_model("vit_base_patch16_224", num_classes=0), text)
    assert sum(parameter.numel() for parameter in model.trained().values()) == count


@pytest.mark.parametrize(("rate", "gmacs"), [(0.5, 12.0575), (0.7, 14.3243), (0.9, 16.5344)])
def test_costs_count_the_target_rate(rate, gmacs):
    with shapes_only():
        model = compose(create_model("vit_base_patch16_224", num_classes=0), DyT(rate=rate))
    routers, head = 12 * 196 * 768 / 1e9, 768 * 100 / 1e9  # the release counts its head, not its routers
    assert costs(model).gmacs_paper - routers + head == pytest.approx(gmacs, abs=5e-5)


def test_gradient_checkpointing_draws_the_same_noise():
    model = wake(compose(toy(), DyT(width=4)))
    model.train()
    batch = images(model)
    gradients = []
    for on in (False, True):
        model.set_gradient_checkpointing(on)
        torch.manual_seed(5)
        logits, penalty = model.forward_with_penalty(batch)
        loss = logits.square().mean() + penalty
        gradients.append(torch.autograd.grad(loss, list(model.trained().values())))
    for one, other in zip(*gradients, strict=True):
        assert_close(one, other, 1e-12)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rate": 0.0}, "rate must be above 0 and at most 1"),
        ({"temperature": 0}, "temperature must be above 0"),
        ({"experts": 0}, "experts must be a whole number"),
        ({"mix": "tokens"}, "mix must be one of"),
    ],
)
def test_what_cannot_be_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        DyT(**settings)
    with pytest.raises(ValueError, match="already has dispatchers"):
        compose(toy(), DyT(), DyT())
