"""DynamicViT against the released code: inference, the training graph with its noise, losses and
gradients.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from blocks import states_after_blocks
from golden import Golden, assert_close
from golden import weight as generated
from torch import Tensor
from torch.nn import functional as F
from toys import images, toy

from vitrim import DynamicViT, EViT, Pool, ToMe, compose, costs
from vitrim.backbones.shapes import shapes_only
from vitrim.methods.reducers.dynamicvit import MIXING, Predictor, distillation_loss
from vitrim.methods.reducers.masked import gumbel_noise, masked_softmax, sample_keep, straight_through
from vitrim.network.model import StagedViT

OFFICIAL = {
    "norm": "in_conv.0",
    "hidden": "in_conv.1",
    "score.0": "out_conv.0",
    "score.1": "out_conv.2",
    "score.2": "out_conv.4",
}


def official(golden: Golden) -> tuple[StagedViT, dict[str, torch.nn.Parameter]]:
    """The composition of a golden case with its weights, and its parameters by official name."""
    at = golden.config["pruning_loc_0based"]
    model = compose(golden.backbone(), DynamicViT(keep=0.7, at=at))
    names = {name.removeprefix("vit."): weight for name, weight in model.named_parameters()}
    for stage, block in enumerate(at):
        for name, parameter in model.stages[block].before.predictor.named_parameters():
            layer, leaf = name.rsplit(".", 1)
            names[f"score_predictor.{stage}.{OFFICIAL[layer]}.{leaf}"] = parameter
    with torch.no_grad():
        for name in golden.about["params"]:
            if name in names and name.startswith("score_predictor"):
                names[name].copy_(golden.weight(name))
    return model, names


def fixed_noise(seed: int, shape: list[int]) -> Callable[[Tensor], Tensor]:
    noise = -(-torch.from_numpy(np.random.default_rng(seed).random(shape)).log()).log()
    return lambda like: noise


def test_inference_equals_the_golden(monkeypatch: pytest.MonkeyPatch) -> None:
    golden, seen = Golden("dynamicvit_eval_r7"), []
    forward = Predictor.forward
    monkeypatch.setattr(Predictor, "forward", lambda *given: seen.append(forward(*given)) or seen[-1])
    model, _ = official(golden)
    with torch.no_grad():
        assert_close(model(golden.images()), golden["logits"])
    for stage, scores in enumerate(seen):
        assert_close(scores[..., 0], golden[f"pred{stage}.log_keep_score"])
        kept = golden[f"pred{stage}.kept_idx"]
        assert torch.equal(scores[..., 0].topk(kept.shape[1]).indices, kept)
    assert [scores.shape[1] for scores in seen] == [196, 137]


def test_training_equals_the_golden() -> None:
    golden = Golden("dynamicvit_train_r7_float64")
    model, names = official(golden)
    model.train().requires_grad_(True)
    for stage in model.stages:
        stage.mixing = (
            MIXING  # the release masks from the first block on, with nothing masked before the first stage
        )
    for block, (seed, shape) in zip((1, 3), golden.about["gumbel_calls"], strict=True):
        model.stages[block].before.noise = fixed_noise(seed, shape)
    logits, state = model.run(golden.images())
    assert_close(logits, golden["logits"])
    assert_close(state.keep, golden["final_decision"])
    assert_close(state.penalty, golden["loss_ratio"])

    teacher = golden.backbone()
    teacher.load_state_dict(
        {
            name: generated(f"teacher.{name}", list(value.shape), False)
            for name, value in teacher.state_dict().items()
        }
    )
    with torch.no_grad():
        tokens = teacher.forward_features(golden.images())
        answers = teacher.forward_head(tokens)
    assert_close(answers, golden["teacher_logits"])
    distilled = distillation_loss(
        logits, model.vit.norm(state.tokens)[:, 1:], state.keep, answers, tokens[:, 1:]
    )
    assert_close(distilled.logits, golden["loss_cls_kl"])
    assert_close(distilled.tokens, golden["loss_token"])
    loss = (
        F.cross_entropy(logits, golden["labels"])
        + state.penalty
        + 0.5 * (distilled.logits + distilled.tokens)
    )
    assert_close(loss, golden["loss"])
    loss.backward()
    for name, norm in zip(golden.about["grad_names"], golden["grad_norms"], strict=True):
        assert names[name].grad.norm().item() == pytest.approx(norm.item(), rel=1e-9), name


@pytest.mark.parametrize("family", ["vit", "dinov3", "siglip", "average"])
def test_masked_and_gathered_agree_for_the_same_tokens(family: str) -> None:
    """What a mask hides in training must be exactly what inference removes."""
    model = compose(toy(family, depth=6), DynamicViT(keep=0.6, at=(1, 3)))
    batch, order = images(model), []

    def decisions(like: Tensor) -> Tensor:
        """Noise that makes the draw fall on what inference keeps: the best of those still there."""
        kept = torch.zeros_like(like)
        still = order[-1] if order else torch.ones_like(like[..., 0])
        best = (
            like[..., 0].masked_fill(still == 0, -torch.inf).topk(int(64 * 0.6 ** (len(order) + 1))).indices
        )
        order.append(torch.zeros_like(still).scatter(1, best, 1.0))
        kept[..., 0] = torch.where(order[-1] > 0, 1e6, -1e6)
        return kept

    with torch.no_grad():
        gathered, short = model.eval().run(batch)
        for stage in model.stages:
            if stage.before is not None:
                stage.before.noise = decisions
        masked, long = model.train().run(batch)
    assert short.count == 23 and long.count == 64
    assert torch.equal(long.keep, (short.source >= 0).double())
    torch.testing.assert_close(masked, gathered, rtol=0, atol=2e-5)  # up to the epsilon of the masked softmax


def test_ratios_are_of_the_images_own_grid() -> None:
    model = compose(toy("internvit", img_size=48), DynamicViT(keep=0.7, at=(3, 6, 9)))
    for size, expected in ((48, (100, 70, 49)), (32, (44, 31, 21))):
        batch = torch.randn(1, 3, size, size, dtype=torch.float64)
        counts = [state.count for state in states_after_blocks(model, batch)]
        assert tuple(counts[3::3]) == expected


def test_the_ratio_loss_pulls_towards_the_ratio() -> None:
    torch.manual_seed(0)
    model = compose(toy("vit", depth=3), DynamicViT(keep=0.5, at=1)).train()
    predictor = model.stages[1].before.predictor
    batch = images(model, batch=8)
    with torch.no_grad():
        predictor.score[-1].bias.copy_(torch.tensor([2.0, -2.0]))
    optimizer = torch.optim.Adam(predictor.parameters(), lr=0.02)
    shares = []
    for _ in range(60):
        _, state = model.run(batch)
        shares.append(state.keep.mean().item())
        optimizer.zero_grad()
        state.penalty.backward()
        optimizer.step()
    assert shares[0] > 0.8 and abs(sum(shares[-10:]) / 10 - 0.5) < 0.1


def test_functions() -> None:
    soft = torch.tensor([0.2, 0.5, 0.7], requires_grad=True)
    hard = straight_through(soft)
    assert hard.tolist() == [0.0, 0.0, 1.0]
    hard.sum().backward()
    assert soft.grad.tolist() == [1.0, 1.0, 1.0]
    noise = gumbel_noise(torch.zeros(200_000, 2))
    assert abs(noise.mean().item() - 0.5772) < 0.01 and torch.isfinite(noise).all()
    decision = sample_keep(torch.tensor([[[0.9, 0.1]]]).log(), torch.tensor([[[0.0, 5.0]]]))
    assert decision.item() == 0.0
    scores, keep = torch.randn(1, 2, 4, 4), torch.tensor([[1.0, 0.0, 1.0, 1.0]])
    attention = masked_softmax(scores, keep, 0.0, itself=False)
    expected = scores.masked_fill(keep[:, None, None] == 0, -torch.inf).softmax(-1)
    torch.testing.assert_close(attention, expected)
    own = masked_softmax(scores, keep, 0.0, itself=True)
    assert own[0, :, 1, 1].min() > 0 and not own[0, :, 0, 1].any()


def test_what_may_stand_behind_it() -> None:
    compose(toy(), DynamicViT(at=3), EViT(at=6))
    with pytest.raises(
        ValueError, match="ToMe at block 5 comes after DynamicViT at block 3, which masks tokens"
    ):
        compose(toy(), DynamicViT(at=3), ToMe(r=[0] * 5 + [4]))
    with pytest.raises(
        ValueError, match="needs the full grid of patches, but DynamicViT at block 3 reduces it"
    ):
        compose(toy(), DynamicViT(at=3), Pool())
    with pytest.raises(ValueError, match=r"block 3 already has a reducer \(DynamicViT\); one per block"):
        compose(toy(), DynamicViT(at=3), EViT(at=3))


def test_shares_of_the_start_stage_by_stage():
    """As in DynamicViT's own sweeps: 196 patches, of which 176, 137 and 98 stay."""
    with shapes_only():
        model = compose("vit_tiny_patch16_224", DynamicViT(keep=(0.9, 0.7, 0.5)))
    assert costs(model).tokens == (197,) * 3 + (177,) * 3 + (138,) * 3 + (99,) * 3
    for wrong in ((0.9, 0.7), (0.5, 0.7, 0.9), (0.9, 0.7, 0)):
        with pytest.raises(ValueError, match="DynamicViT: keep must be"):
            DynamicViT(keep=wrong)
