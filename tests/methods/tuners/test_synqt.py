"""SynQT: the release's features, logits and gradients; what training keeps; partners, files, costs."""

from itertools import product
from pathlib import Path

import pytest
import torch
import tuned
from golden import Golden, assert_close, projection
from toys import images, toy

import vitrim
from vitrim import SynQT, ToMe, compose, costs
from vitrim.backbones import asking, bridge
from vitrim.backbones.shapes import shapes_only
from vitrim.network.model import StagedViT

GOLDEN = Golden("synqt_q4_d64")
HEAD = {
    "map.down": "mlp.mlp.fc1", "map.up": "mlp.mlp.fc2", "norm": "out_norm", "head_norm": "head_norm",
    "weigh": "out_combine.get_weight.fc1",
}  # fmt: skip
BLOCK = {
    "enter.down": "prompt_ffn.{}.mlp.fc1", "enter.up": "prompt_ffn.{}.mlp.fc2",
    "among.norm_attention": "qsm_block.{}.norm1", "among.norm_map": "qsm_block.{}.norm2",
    "among.norm_query": "qsm_block.{}.attn.q_norm", "among.norm_others": "qsm_block.{}.attn.kv_norm",
    "among.map.down": "qsm_block.{}.mlp.mlp.fc1", "among.map.up": "qsm_block.{}.mlp.mlp.fc2",
    **{
        f"among.{ours}.{half}": f"qsm_block.{{}}.attn.{theirs}.mlp.{layer}"
        for (ours, theirs), (half, layer) in product(
            (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("out", "proj")),
            (("down", "fc1"), ("up", "fc2")),
        )
    },
}  # fmt: skip


def names_of(depth: int) -> dict[str, str]:
    """Our parameters and the release's, but for the queries, which it keeps in one."""
    pairs = {f"shared.SynQT.{ours}": f"synqt.{theirs}" for ours, theirs in HEAD.items()}
    for block in range(depth):
        step = f"stages.{block}.aside.0"
        pairs |= {f"{step}.{ours}": f"synqt.{theirs.format(block)}" for ours, theirs in BLOCK.items()}
    found = {f"{a}.{leaf}": f"{b}.{leaf}" for (a, b), leaf in product(pairs.items(), ("weight", "bias"))}
    scales = {"attention": "attn", "mlp": "ffn"}
    for block, (ours, theirs) in product(range(depth), scales.items()):
        official = f"synqt.qsm_block.{block}.{theirs}_scale"
        found[f"stages.{block}.aside.0.among.{ours}_scale"] = official
    return found | {"shared.SynQT.feature_scale": "synqt.feat_scale"}


def golden_model() -> StagedViT:
    h = GOLDEN.about["hyper"]
    scales = {
        "attention_scale": h["attn_scale"],
        "feature_scale": h["feat_scale"],
        "mlp_scale": h["ffn_scale"],
    }
    model = compose(GOLDEN.backbone(), SynQT(queries=h["queries"], **scales))
    tuned.set_values(model, GOLDEN, names_of(3))
    with torch.no_grad():
        for value in (model.side.weigh.weight, model.side.weigh.bias):  # here block by block
            value.copy_(value.view(3, 3, -1).transpose(0, 1).reshape(value.shape))
        for block, queries in enumerate(GOLDEN.weight("synqt.q")):
            model.get_parameter(f"stages.{block}.aside.0.queries").copy_(queries)
    return model.eval()


def test_features_weights_and_logits_are_those_of_the_release():
    model = golden_model()
    with torch.no_grad():
        assert_close(model(GOLDEN.images()), GOLDEN["logits"])
        logits, state = model.run(GOLDEN.images())
        gathered = model.side.gathered(state.side[0])
        blocks = (
            torch.arange(1, 10).view(3, 3).T.flatten()
        )  # the release: all queries, then all attentions, ...
        order = torch.cat([torch.zeros(1, dtype=torch.long), blocks])
        assert_close(model.side.weights(gathered)[:, order], GOLDEN["weights"])
        states, attentions, mlps = (state.side[0].values[start::3] for start in range(3))
        stack = torch.stack([states[-1], *states, *attentions, *mlps], 1)
    assert_close(logits, GOLDEN["logits"])
    assert_close(projection(state.tokens), GOLDEN["block2_proj"])  # the patch stream, untouched
    assert_close(stack.norm(dim=-1), GOLDEN["feature_norms"])
    assert_close(projection(stack), GOLDEN["feature_proj"])


def test_gradients_are_those_of_the_release():
    model = golden_model().train()
    logits = model(GOLDEN.images())
    assert_close(logits, GOLDEN["train_logits"])
    logits.square().mean().backward()
    ours = {official: name for name, official in names_of(3).items()}
    grads = {name: model.get_parameter(ours[name]).grad for name in ours}
    grads["synqt.q"] = torch.stack([stage.aside[0].queries.grad for stage in model.stages])
    grads |= {f"head.{leaf}": getattr(model.vit.head, leaf).grad for leaf in ("weight", "bias")}
    unread = set(GOLDEN.about["grad_none"])
    for row, official in enumerate(GOLDEN.about["grad_names"]):
        if official not in unread:
            expected = GOLDEN["grad_norm"][row]
            assert abs(grads[official].norm() - expected) <= 1e-9 * expected + 1e-12, official
    assert not [n for n, p in model.vit.named_parameters() if p.grad is not None and "head" not in n]


def test_of_the_patches_one_tensor_a_block_is_kept():
    """What autograd keeps: the queries' way through the blocks, and what the patches' keys are made of."""
    model = compose(toy(depth=4), SynQT(queries=2)).train()
    batch, tokens, known = images(model), model.patch_count + 1, set()
    weights = {each.untyped_storage().data_ptr() for each in (*model.parameters(), *model.buffers())}
    kept: list[torch.Tensor] = []

    def note(saved: torch.Tensor) -> torch.Tensor:
        place = saved.untyped_storage().data_ptr()
        if place not in weights | known:
            known.add(place)
            kept.append(saved)
        return saved

    with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
        model(batch).sum().backward()
    whole = [saved.shape for saved in kept if tokens in saved.shape]
    assert whole == [(2, tokens, model.width)] * 4
    sizes = [saved.untyped_storage().nbytes() for saved in kept if tokens in saved.shape]
    assert sizes == [2 * tokens * model.width * 8] * 4  # no view of something larger


@pytest.mark.parametrize("family", ["vit", "siglip", "dinov3", "beit", "internvit"])
@pytest.mark.parametrize("how", ["plain", "checkpointed", "bfloat16"])
def test_keys_made_again_give_the_gradients_of_keys_kept(family, how, monkeypatch):
    """At their places, with sizes, and behind a reducer that left some."""
    model = tuned.stir(compose(toy(family, depth=3), SynQT(queries=2), ToMe(r=5, at=(0, 1)))).train()
    model.set_gradient_checkpointing(how == "checkpointed")
    batch, made = images(model), []

    def gradients() -> list[torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=how == "bfloat16"):
            model(batch).square().mean().backward()
        found = [value.grad.clone() for value in model.trained().values() if value.grad is not None]
        model.zero_grad()
        return found

    project = bridge.project_keys
    monkeypatch.setattr(bridge, "project_keys", lambda *given: made.append(1) or project(*given))
    again = gradients()
    assert len(made) == 3  # every block's, once
    monkeypatch.setattr(asking, "_remakes", lambda *given: False)
    for one, other in zip(again, gradients(), strict=True):
        assert_close(one, other, 1e-12)
    assert len(made) == 3 and len(again) > 50


@pytest.mark.parametrize("family", ["vit", "distilled", "siglip", "dinov3", "beit", "average", "internvit"])
def test_every_backbone_s_attention_answers(family):
    model = tuned.stir(compose(toy(family, depth=3), SynQT(queries=2)))
    tuned.check_training("SynQT(queries=2)", family=family)
    with torch.no_grad():
        batch = images(model)
        assert_close(model(batch), model.run(batch)[0], 1e-10)
        assert (model(batch) - toy(family, depth=3)(batch)).abs().max() > 1e-3
        assert model.read_by_head(batch).shape == (2, model.width)


def test_queries_weigh_merged_tokens_by_their_size():
    """Twins merged change nothing that the queries are told."""
    vit = toy(depth=2)
    with torch.no_grad():
        vit.pos_embed[:, 2::2] = vit.pos_embed[:, 1:-1:2]
    batch = images(vit)
    batch[..., 4::8] = batch[..., 0::8]
    for shift in range(1, 4):
        batch[..., 4 + shift :: 8] = batch[..., shift::8]  # each pair of neighbouring patches is alike
    torch.manual_seed(0)
    plain = tuned.stir(compose(toy(depth=2), SynQT()))
    plain.vit.load_state_dict(
        {**vit.state_dict(), **{n: v for n, v in plain.vit.state_dict().items() if "head" in n}}
    )
    torch.manual_seed(0)
    merged = tuned.stir(compose(toy(depth=2), SynQT(), "ToMe(r=[32])"))
    merged.vit.load_state_dict(plain.vit.state_dict())
    with torch.no_grad():
        assert merged.run(batch)[1].count == 32
        assert_close(merged(batch), plain(batch), 1e-10)


def test_it_saves_loads_swaps_and_stays_when_merged(tmp_path: Path):
    tuned.check_round_trip("SynQT(queries=2)", tmp_path)
    model = tuned.stirred("SynQT(queries=2)")
    expected = tuned.logits(model)
    vitrim.save(model, tmp_path / "queries.safetensors")
    other = tuned.stirred("SynQT(queries=3)")
    vitrim.swap(other, tmp_path / "queries.safetensors")
    assert torch.equal(tuned.logits(other), expected)
    plain = compose(tuned.backbone(), "Linear()").eval()
    vitrim.save(plain, tmp_path / "plain.safetensors")
    vitrim.swap(other, tmp_path / "plain.safetensors")
    assert other.side is None and torch.equal(tuned.logits(other), tuned.logits(plain))
    assert vitrim.merge(model).methods == model.methods


@pytest.mark.parametrize(
    "partner", ["LoRA()", "Adapter()", "Full()", "VPT()", "BitFit()", "FisherDelta()", "DyT()"]
)
def test_what_trains_inside_the_backbone_is_refused(partner):
    with pytest.raises(
        ValueError, match=r"leaves the backbone without gradients, so .* would never train"
    ) as found:
        compose(toy(depth=4), "SynQT()", partner)
    assert "leave out" in str(found.value)


def test_features_are_left_out_whole_and_the_others_scaled():
    model = tuned.stir(compose(toy(depth=3), SynQT(queries=2, drop_features=0.4)))
    with torch.no_grad():
        gathered = model.run(images(model))[1].side[0]
        whole = model.side.gathered(gathered)  # [B, 10, D]
        model.train()
        torch.manual_seed(0)
        found = model.side.gathered(gathered)
    assert torch.equal(found[:, 0], whole[:, 0])  # the first always counts
    left_out = (found[:, 1:] == 0).all(-1)
    assert 0 < left_out.sum() < left_out.numel()
    assert_close(found[:, 1:], whole[:, 1:] / 0.6 * ~left_out[..., None], 1e-12)


def test_heads_that_are_mixed_cannot_be_asked():
    with pytest.raises(ValueError, match="mixes or subtracts heads"):
        compose(toy("cait", depth=2), "SynQT()")


def test_costs_count_the_queries_and_only_the_keys_of_the_last_block():
    with shapes_only():
        one, four = (costs(compose("vit_base_patch16_224", f"SynQT(queries={q})")) for q in (1, 4))
        plain = costs(compose("vit_base_patch16_224"))
    assert (round(one.gmacs, 3), round(four.gmacs, 3)) == (16.446, 16.677)
    assert plain.gmacs_paper < one.gmacs_paper < four.gmacs_paper
    assert one.blocks[-1] < plain.blocks[-2] / 5 and plain.blocks[-2] < one.blocks[-2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SynQT(queries=0)", "queries must be a whole number of at least 1, got 0"),
        ("SynQT(attention_scale='x')", "attention_scale must be a number, got 'x'"),
        ("SynQT(drop_features=1)", "drop_features must be at least 0 and below 1"),
        ("SynQT(follows='code')", "follows must be one of 'paper', 'release'"),
    ],
)
def test_impossible_settings_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        compose(toy(depth=2), text)
