"""FisherDelta: what it trains, what it costs to train that, and what survives saving and merging."""

import copy
import math
from pathlib import Path

import pytest
import torch
from naive_scores import batches_for, naive_scores
from torch import Tensor
from torch.nn import functional as F
from toys import images, toy

from vitrim import EViT, FisherDelta, LoRA, ToMe, compose, costs, fit, load, merge, parse_method, save
from vitrim.backbones.shapes import shapes_only
from vitrim.files.saving import saved_tensors
from vitrim.methods.selection.candidates import candidates
from vitrim.methods.selection.shares import chosen_shares
from vitrim.methods.tuners.sparse_delta import AT_ONCE, chosen_products
from vitrim.network.method import Method
from vitrim.network.model import StagedViT
from vitrim.training.fitting import adopt, needs_fit

GPS = FisherDelta(top=None, connections=2, score="gradient", biases=True, patch=True)


def fitted(*methods: Method, family: str = "vit", dtype: torch.dtype = torch.float64) -> StagedViT:
    """A model whose entries were chosen and have moved away from zero."""
    model = compose(toy(family, dtype), *methods)
    fit(model, batches_for(model))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, value in model.trained().items():
            if name.endswith("entries.values"):
                value.copy_(torch.randn(value.shape, generator=generator, dtype=torch.float64) * 0.05)
    return model


def gradients(model: StagedViT) -> dict[str, Tensor]:
    x, y = batches_for(model, count=1)[0]
    names, weights = zip(*model.trained().items(), strict=True)
    found = torch.autograd.grad(F.cross_entropy(model.train()(x), y), weights, allow_unused=True)
    return {name: g if g is not None else torch.zeros(0) for name, g in zip(names, found, strict=True)}


def naive_choice(model: StagedViT, method: FisherDelta) -> dict[str, list[list[int]]]:
    """The weights TR-PTS's equations choose, by loops over plain lists."""
    scores = naive_scores(model, batches_for(model), method.measure, method.patch)
    entries = [(-s, i, n) for n, score in scores.items() for i, s in enumerate(score.flatten().tolist())]
    order = {name: place for place, name in enumerate(scores)}
    entries.sort(key=lambda entry: (entry[0], order[entry[2]], entry[1]))
    top = entries[: math.floor(len(entries) * method.top / 100)]
    layer_of = {name: name.split(".")[1] if method.layer == "block" else name for name in scores}
    counts = {layer: sum(layer_of[n] == layer for _, _, n in top) for layer in layer_of.values()}
    smallest = min(count for count in counts.values() if count)
    chosen = {}
    for name, score in scores.items():
        c = counts[layer_of[name]] / smallest * method.connections
        c = max(1, math.floor(c + 1e-9) if method.rounding == "floor" else math.floor(c + 0.5))
        rows = score.tolist()
        chosen[name] = [
            sorted(sorted(range(len(row)), key=lambda i, row=row: (-row[i], i))[:c]) for row in rows
        ]
    return chosen


@pytest.mark.parametrize(
    "method",
    [
        FisherDelta(),
        FisherDelta(top=10.0, layer="block"),
        FisherDelta(fisher="batch", connections=3, rounding="nearest"),
        FisherDelta(top=5.0, score="gradient", patch=True),
    ],
    ids=repr,
)
@pytest.mark.parametrize("family", ["vit", "eva02"])
def test_chooses_what_a_naive_implementation_chooses(method: FisherDelta, family: str) -> None:
    model = compose(toy(family), method)
    fit(model, batches_for(model))
    expected = naive_choice(compose(toy(family)), method)
    for candidate in candidates(model, method.patch):
        assert candidate.layer.entries.index.tolist() == expected[candidate.name]


@pytest.mark.parametrize("family", ["vit", "distilled", "dinov3", "siglip", "qk-norm"])
@pytest.mark.parametrize("method", [FisherDelta(top=20.0, connections=2), GPS], ids=["fisher", "gps"])
def test_gradients_are_those_of_dense_training_at_the_chosen_entries(
    family: str, method: FisherDelta
) -> None:
    model = fitted(method, family=family)
    found = gradients(model)
    dense = merge(model).train()
    for candidate in candidates(dense, method.patch):
        candidate.layer.weight.requires_grad_(True)
        for bias in (site.bias for site in dense.sites() if method.biases and site.role != "norm"):
            bias is not None and bias.requires_grad_(True)
    expected = gradients(dense)
    for candidate in candidates(model, method.patch):
        whole = expected[f"vit.{candidate.name}"].flatten(1)
        ours = found[f"vit.{candidate.name.removesuffix('weight')}entries.values"]
        index = candidate.layer.entries.index
        torch.testing.assert_close(ours, whole.gather(1, index), rtol=1e-9, atol=1e-14)
    for name in set(found) & set(expected):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("tokens", [50, 2 * AT_ONCE + 3])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_sampled_and_dense_products_agree(count: int, tokens: int) -> None:
    generator = torch.Generator().manual_seed(0)
    g, x = (torch.randn(tokens, width, generator=generator, dtype=torch.float64) for width in (8, 64))
    index = torch.stack([torch.randperm(64, generator=generator)[:count].sort().values for _ in range(8)])
    torch.testing.assert_close(chosen_products(g, x, index), (g.t() @ x).gather(1, index))


def test_only_the_chosen_entries_have_gradients_and_optimiser_state() -> None:
    model = fitted(FisherDelta())
    before = {name: value.clone() for name, value in model.vit.state_dict().items() if "entries" not in name}
    optimizer = torch.optim.Adam(model.trained().values(), lr=0.1, weight_decay=0.1)
    x, y = batches_for(model, count=1)[0]
    F.cross_entropy(model.train()(x), y).backward()
    optimizer.step()
    counts = model.methods[0].counts
    entries = sum(c.layer.out_features * k for c, k in zip(candidates(model), counts, strict=True))
    chosen = [value for name, value in model.trained().items() if "entries" in name]
    state = sum(v.numel() for value in chosen for v in optimizer.state[value].values() if v.ndim)
    kept = sum(value.grad.numel() for value in chosen)
    assert sum(value.numel() for value in chosen) == kept == entries and state == 2 * entries
    assert all(weight.grad is None for weight in model.parameters() if not weight.requires_grad)
    after = model.vit.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items() if "head" not in name)


@pytest.mark.parametrize("family", ["vit", "eva02"])
def test_folds_exactly(family: str) -> None:
    model = fitted(GPS, family=family).eval()
    merged = merge(model)
    assert merged.methods == () and not any("entries" in name for name in merged.state_dict())
    x = images(model)
    torch.testing.assert_close(merged(x), model(x), rtol=1e-12, atol=1e-12)
    moved = (merged.vit.patch_embed.proj.weight != model.vit.patch_embed.proj.weight).flatten(1).sum(1)
    assert moved.eq(2).all()


def test_last_block_in_part_equals_the_whole() -> None:
    model = fitted(FisherDelta(top=10.0)).train()
    x = images(model)
    torch.testing.assert_close(model(x), model.run(x)[0], rtol=1e-12, atol=1e-12)
    weights = list(model.trained().values())
    for ours, whole in zip(
        torch.autograd.grad(model(x).square().sum(), weights),
        torch.autograd.grad(model.run(x)[0].square().sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(ours, whole, rtol=1e-9, atol=1e-12)


def test_gradient_checkpointing_changes_nothing() -> None:
    model = fitted(FisherDelta(), EViT(keep=0.7))
    plain = gradients(model)
    model.set_gradient_checkpointing()
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, plain[name], rtol=1e-9, atol=1e-14)


def test_norms_and_activations_are_not_kept_for_the_backward_pass() -> None:
    model = fitted(FisherDelta()).train()
    state = model.run(images(model))[1]
    block, tokens = model.vit.blocks[5], state.tokens.detach().requires_grad_(True)
    kept = block.mlp(block.norm2(tokens)).grad_fn.saved_tensors
    width, tall = tokens.shape[-1], block.mlp.fc1.out_features
    activations = [t for t in kept if t.shape[:2] == tokens.shape[:2]]
    assert [t.shape[-1] for t in activations] == [tall] and width != tall  # fc1's output, not the GELU's
    assert not torch.equal(activations[0], F.gelu(activations[0]))


def test_autocast_computes_in_bfloat16_with_precise_values() -> None:
    model = fitted(FisherDelta(top=10.0), dtype=torch.float32)
    precise = gradients(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x, y = batches_for(model, count=1)[0]
        hidden = model.vit.blocks[2].attn.qkv(x.new_ones(1, 3, 24))
        loss = F.cross_entropy(model.train()(x).float(), y)
    assert hidden.dtype == torch.bfloat16
    names, weights = zip(*model.trained().items(), strict=True)
    for name, rough in zip(names, torch.autograd.grad(loss, weights), strict=True):
        assert rough.dtype == torch.float32
        similarity = F.cosine_similarity(rough.flatten(), precise[name].flatten(), dim=0)
        assert similarity > 0.97, name


def test_survives_saving_and_knows_its_backbone(tmp_path: Path) -> None:
    model = compose("vit_tiny_patch16_224", FisherDelta(), EViT(at="sparse"), num_classes=5, image_size=32)
    fit(model, batches_for(model))
    with torch.no_grad():
        for value in model.trained().values():
            value.add_(0.01)
    save(model.eval(), tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert again.methods == model.methods and not needs_fit(again)
    x = images(model)
    assert torch.equal(again(x), model(x))
    assert chosen_shares(again) == pytest.approx(chosen_shares(model)) and sum(chosen_shares(model)) > 0.999
    entries = sum(v.numel() for n, v in model.trained().items() if "entries" in n)
    head = sum(v.numel() for n, v in model.trained().items() if "head" in n)
    indices = sum(v.numel() for n, v in saved_tensors(model).items() if n.endswith("packed"))
    assert indices <= 10 / 8 * entries + len(saved_tensors(model))  # 8 to 10 bits for each
    overhead = (tmp_path / "model.safetensors").stat().st_size - 4 * (entries + head) - indices
    assert overhead < 40_000  # names and shapes


def test_evaluating_first_does_not_spoil_training() -> None:
    model = fitted(FisherDelta())
    twin = copy.deepcopy(model)
    with torch.inference_mode():
        twin.eval()(images(twin))
    expected = gradients(model)
    for name, gradient in gradients(twin).items():
        assert torch.equal(gradient, expected[name])


def test_what_was_chosen_can_be_taken_over() -> None:
    model, other = fitted(FisherDelta(), EViT(at="sparse")), compose(toy(), FisherDelta(), EViT(at="sparse"))
    x = images(model)
    adopt(other, [repr(method) for method in model.methods], saved_tensors(model))
    assert other.methods == model.methods and torch.equal(other.eval()(x), model.eval()(x))


def test_tokens_are_thinned_where_fewest_weights_were_chosen() -> None:
    placed = {rule: fitted(FisherDelta(), EViT(keep=0.5, at=rule)) for rule in ("sparse", "dense")}
    shares = chosen_shares(placed["sparse"])
    totals = {rule: sum(shares[i] for i in model.methods[1].at) for rule, model in placed.items()}
    assert totals["sparse"] < totals["dense"]
    alone = compose(toy(), EViT(keep=0.5, at="sparse"))
    fit(alone, batches_for(alone))
    assert alone.methods == (placed["sparse"].methods[1],)
    assert costs(alone).tokens[-1] < costs(compose(toy())).tokens[-1]


def test_order_of_methods_and_other_reducers_do_not_matter() -> None:
    one, other = fitted(FisherDelta(), EViT(at="sparse")), fitted(EViT(at="sparse"), FisherDelta())
    assert one.methods == other.methods[::-1]
    assert fitted(FisherDelta(), ToMe(r=2)).methods[0] == one.methods[0]


def test_scores_are_kept_and_used_again(tmp_path: Path) -> None:
    method = FisherDelta(scores=str(tmp_path / "scores.safetensors"))
    first, again = compose(toy(), method), compose(toy(), method)
    fit(first, batches_for(first))
    fit(again, [])
    assert again.methods == first.methods
    for change, sentence in (
        ({"fisher": "batch"}, "holds per_sample cross_entropy scores, not batch cross_entropy"),
        ({"patch": True}, "has no scores of shape (24, 48) for patch_embed.proj.weight"),
    ):
        other = compose(toy(), FisherDelta(scores=method.scores, **change))
        with pytest.raises(ValueError) as caught:
            fit(other, [])
        assert sentence in str(caught.value)


def test_training_before_choosing_is_refused() -> None:
    for method in (FisherDelta(), GPS):
        model = compose(toy(), method)
        model.eval()(images(model))
        with pytest.raises(ValueError, match="has not chosen its weights yet"):
            model.train()(images(model))
    assert needs_fit(model)


def test_gps_counts_are_known_before_choosing() -> None:
    with shapes_only():
        model = compose("vit_base_patch16_224", GPS)
    found = costs(model)
    assert found.trained - found.trained_head == 83_712 * 3


def test_most_bounds_every_neuron() -> None:
    free, bound = (fitted(FisherDelta(layer="block", most=most)).methods[0] for most in (None, 2))
    assert max(free.counts) > 2 and bound.counts == tuple(min(2, count) for count in free.counts)


def test_text_says_what_was_chosen() -> None:
    (method,) = fitted(FisherDelta()).methods
    assert parse_method(repr(method)) == method and len(method.counts) == 48
    assert repr(FisherDelta()) == (
        "FisherDelta(top=1.0, connections=1, layer='matrix', score='fisher', fisher='per_sample')"
    )


REFUSED = {
    "top must be above 0 and at most 100 percent, got 0": lambda: FisherDelta(top=0),
    "connections must be a whole number of at least 1": lambda: FisherDelta(connections=0),
    "layer must be one of 'matrix', 'block', got 'row'": lambda: FisherDelta(layer="row"),
    "use fisher='batch' or score='gradient'": lambda: FisherDelta(loss="contrastive"),
    "3 counts for 48 matrices; give one each": lambda: compose(toy(), FisherDelta(counts=(1, 2, 3))),
    "25 inputs per neuron, but": lambda: compose(toy(), FisherDelta(counts=(25,) * 48)),
    "already carries LoRA; one tuner per layer": lambda: compose(toy(), LoRA(rank=2), FisherDelta()),
    "already carries FisherDelta; one tuner per layer": lambda: compose(toy(), FisherDelta(), LoRA(rank=2)),
    "3 blocks from block 3 on, 2 apart, do not fit into 4 blocks": lambda: compose(
        toy(depth=4), EViT(at="sparse")
    ),
    "at must be one of 'sparse', 'dense', 'random'": lambda: EViT(at="sparsest"),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_nonsense_is_refused_in_one_sentence(sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        REFUSED[sentence]()
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_model_whose_blocks_are_not_chosen_refuses_to_run() -> None:
    model = compose(toy(), EViT(keep=0.5, at="sparse"))
    with pytest.raises(ValueError, match=r"not chosen yet; call vitrim\.fit"):
        model(images(model))
