"""Pruned layers: the walk and silhouettes of SLS, models cut after any tuner, and their files."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import FOLDER, Golden, assert_close
from sklearn.metrics import silhouette_score
from toys import images, toy
from tuned import logits, stir

import vitrim
from vitrim import METHODS, TUNERS, FirstBlocks, LoRA, RepAdapter, compose, load, merge, save, swap
from vitrim.backbones.shapes import shapes_only
from vitrim.measuring.pruning import (
    first_blocks,
    kept_blocks,
    layer_features,
    layer_scores,
    probe_accuracy,
    silhouette,
)
from vitrim.training.fitting import needs_fit

WALKS = json.loads((FOLDER / "sls_walk_table.json").read_text())["rows"]


@pytest.mark.parametrize("row", WALKS, ids=lambda row: str(row["official_kept"]))
def test_the_walk_is_the_releases(row):
    depth = len(row["silhouettes"])
    assert kept_blocks(row["silhouettes"], 0.3) == (row["official_kept"] or depth)
    for alpha, kept in row["kept_by_alpha"].items():
        assert kept_blocks(row["silhouettes"], float(alpha)) == (kept or depth)


def golden_features() -> tuple[list[np.ndarray], np.ndarray, Golden]:
    golden = Golden("sls_tsne_n60_c3")
    c = golden.about["config"]
    luck = np.random.default_rng(golden.about["input_seed"])
    centres = luck.standard_normal((c["classes"], c["dim"]))
    noise = luck.standard_normal((len(c["separations"]), c["n"], c["dim"]))
    labels = np.arange(c["n"]) % c["classes"]
    layers = [s * centres[labels] + noise[i] for i, s in enumerate(c["separations"])]
    return [layer.astype(np.float32) for layer in layers], labels, golden


def test_silhouettes_are_those_of_the_stored_planes_and_of_a_rerun():
    layers, labels, golden = golden_features()
    for index, (features, wanted) in enumerate(zip(layers, golden["silhouette"].tolist(), strict=True)):
        plane = golden["embedding"][index].numpy()
        assert abs(silhouette_score(plane, labels) - wanted) < 1e-6
        assert abs(silhouette(features, labels) - wanted) < 0.08  # t-SNE differs between versions


def test_the_probe_ranks_the_same_layers_alike():
    layers, labels, _ = golden_features()
    found = [probe_accuracy(features, labels) for features in layers]
    assert found == sorted(found) and abs(found[0]) < 0.25 and found[-1] > 0.8


def example(name: str) -> str:
    return repr(METHODS[name].example(compose(toy(depth=4))))


def tuned(*methods: str) -> vitrim.network.model.StagedViT:
    torch.manual_seed(0)
    model = compose(toy(depth=4), *methods)
    if needs_fit(model):
        vitrim.fit(model, [(images(model, batch=6), torch.arange(6) % 5)])
    return stir(model)


@pytest.mark.parametrize("name", [*TUNERS, "EViT", "ToMe", "Pool", "Bipartite"])
def test_a_cut_model_gives_what_the_whole_one_had_there(name, tmp_path):
    """The final norm and the head on the state after the last block that is left."""
    model = tuned(example(name))
    if name == "SynQT":
        with pytest.raises(ValueError, match="reads all blocks at once"):
            first_blocks(model, 2)
        return
    cut = first_blocks(model, 2)
    assert cut.depth == 2 and cut.methods[0] == FirstBlocks(2)
    assert {owner for owner, _, _ in cut.own_layers} <= set(cut.vit.modules())  # the others are let go
    with torch.no_grad():
        layers = model.forward_intermediates(
            images(model), return_prefix_tokens=True, output_fmt="NLC", norm=True,
            intermediates_only=True, restore="tokens",
        )  # fmt: skip
        expected = model.vit.head(layers[1][1][:, 0])
        if model.side is not None:  # whose end, cut like the model, reads what was gathered so far
            state, places = model.begin(images(model))
            expected = cut.classify(model.pass_blocks(state, places, range(2), None))
    if name not in ("EViT", "Bipartite"):  # the last block runs no reducer, but for what follows it
        assert_close(logits(cut), expected, 1e-10)
    save(cut, tmp_path / "cut.safetensors")
    again = load(tmp_path / "cut.safetensors", backbone=toy(depth=4))
    assert again.depth == 2 and again.methods == cut.methods
    assert_close(logits(again), logits(cut), 1e-9)
    assert_close(logits(merge(cut)), logits(cut), 1e-9)
    cut.train()
    cut(images(cut)).square().mean().backward()
    if name != "NOAH":
        silent = [n for n, p in cut.trained().items() if p.grad is None]
        assert silent == []
    assert model.depth == 4


def test_parameters_are_in_proportion_to_the_blocks_kept():
    for kept in (5, 12):
        with shapes_only():
            model = compose("vit_base_patch16_224", FirstBlocks(kept), RepAdapter(), num_classes=0)
        weights = sum(value.numel() for value in model.trained().values() if value.ndim > 1)
        assert weights == 221_184 * kept // 12


def test_what_was_said_for_other_blocks_goes():
    model = tuned(
        "LoRA(rank=(2, 0, 3, 4))",
        "Adapter(at=(1, 3))",
        "ToMe(r=[4, 4, 4, 4])",
        "Convpass(at=(3,), reduced='paint')",
    )
    cut = first_blocks(model, 2)
    assert list(map(repr, cut.methods)) == [
        "FirstBlocks(count=2)",
        repr(LoRA(rank=(2, 0))),
        "Adapter(width=8, scale=1.0, at=(1,))",
        repr(METHODS["ToMe"](r=[4, 4])),
    ]
    assert first_blocks(cut, 1).methods == (FirstBlocks(1), LoRA(rank=(2,)), METHODS["ToMe"](r=[4]))
    assert first_blocks(model, 4).methods == model.methods


def test_blocks_are_scored_and_left_out_by_the_training_images():
    model = tuned("LoRA(rank=2)")
    batches = [(images(model, batch=20, seed=seed), torch.arange(20) % 2) for seed in range(2)]
    for rule in ("silhouette", "probe"):
        scores = layer_scores(model, batches, rule)
        assert len(scores) == 4
        kept = kept_blocks(scores, 0.0 if rule == "probe" else 0.3)
        pruned = vitrim.prune_layers(model, batches, 0.0 if rule == "probe" else None, rule)
        assert pruned.depth == kept
    assert model.depth == 4 and model.methods == (LoRA(rank=2),)


def test_features_are_those_after_each_block():
    model = tuned("LoRA(rank=2)", "EViT(keep=0.5, at=(1,))")
    batch = images(model, batch=6)
    features, _ = layer_features(model, [(batch, torch.arange(6) % 2)])
    assert len(features) == 4
    for count, found in enumerate(features, start=1):
        state = first_blocks(model, count).run(batch)[1]
        assert_close(torch.from_numpy(found), state.tokens[:, 0].float(), 1e-6)


def test_what_cannot_be_is_refused(tmp_path: Path):
    model = tuned("LoRA(rank=2)")
    few = [(images(model, batch=6), torch.arange(6) % 2)]
    with pytest.raises(ValueError, match="32 images or more, got 6"):
        vitrim.prune_layers(model, few)
    with pytest.raises(ValueError, match="4 images of every class or more"):
        vitrim.prune_layers(model, few, rule="probe")
    with pytest.raises(ValueError, match="6 images of 1 classes"):
        vitrim.prune_layers(model, [(images(model, batch=6), torch.zeros(6))])
    with pytest.raises(ValueError, match="there are no images"):
        vitrim.prune_layers(model, [])
    with pytest.raises(ValueError, match="alpha must be from 0 to 1"):
        vitrim.prune_layers(model, few, alpha=3)
    with pytest.raises(ValueError, match="rule must be one of"):
        vitrim.prune_layers(model, few, rule="depth")
    with pytest.raises(ValueError, match="only 4 blocks"):
        compose(toy(depth=4), FirstBlocks(5))
    for standing in ("LoRA()", "Adapter()", "VPT()", "EViT(at=(3,))", "ResTuning()"):
        with pytest.raises(ValueError, match="name it before them"):
            compose(toy(depth=4), standing, FirstBlocks(2))
    with pytest.raises(ValueError, match="there is no block 3"):
        compose(toy(depth=4), FirstBlocks(2), LoRA(at=(3,)))
    save(model, tmp_path / "whole.safetensors")
    cut = first_blocks(model, 2)
    before = logits(cut)
    with pytest.raises(ValueError, match="load the file with"):
        swap(cut, tmp_path / "whole.safetensors")
    assert torch.equal(logits(cut), before)
    again = copy.deepcopy(cut)
    save(stir(again, seed=9), tmp_path / "other.safetensors")
    swap(cut, tmp_path / "other.safetensors")
    assert_close(logits(cut), logits(again), 1e-6)
