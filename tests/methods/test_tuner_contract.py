"""What every tuner promises, alone and with every reducer: plain, rotary, register, class-less backbones. New
tuners join by their table row; what else has to be known of them is found from `Method.example` and its
class variables.
"""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from casting import Mould
from golden import assert_close
from torch import Tensor, nn
from torch.nn import functional as F
from toys import images, toy

from vitrim import METHODS, REDUCERS, TUNERS, EViT, compose, fit, load, merge, save
from vitrim.files.saving import saved_tensors
from vitrim.network.method import Method
from vitrim.network.model import StagedViT
from vitrim.network.placing import placed
from vitrim.training.fitting import needs_fit

FAMILIES = ("vit", "dinov3", "dinov2-registers", "siglip")
EVERY_PAIR = [(tuner, reducer) for tuner in TUNERS for reducer in (None, *REDUCERS)]
PLACES = [(tuner, family) for tuner in TUNERS for family in FAMILIES[1:]]
CLASSES = 5


def backbone(family: str, depth: int = 4) -> nn.Module:
    return toy(family, depth=depth)


@cache
def method(name: str, family: str = "vit", depth: int = 4) -> Method:
    """What fits the toy: 24 channels, 64 patches."""
    return METHODS[name].example(compose(backbone(family, depth)))


def build(tuner: str | None, reducer: str | None, family: str = "vit", depth: int = 4) -> StagedViT:
    """The composition on the same backbone, with the reducer's random start the same each time."""
    model: StagedViT = mould(tuner, reducer, family, depth).cast()
    torch.default_generator.manual_seed(0)  # what is drawn next does not depend on who was built before
    return model


@cache
def mould(tuner: str | None, reducer: str | None, family: str, depth: int) -> Mould:
    methods = [method(name, family, depth) for name in (reducer, tuner) if name is not None]
    torch.default_generator.manual_seed(0)
    model = compose(backbone(family, depth), *methods)
    if needs_fit(model):
        fit(model, [(images(model, batch=6), torch.arange(6) % CLASSES)])
    return Mould(model.eval())


BESIDE = [name for name in TUNERS if compose(backbone("vit"), method(name)).side is not None]
LEARNING = [
    name
    for name in REDUCERS
    if any(list(part.parameters()) for _, part in placed(compose(backbone("vit"), method(name))))
]
# No gradient comes through the backbone from a head that reads a side stream
REFUSED = [pair for pair in EVERY_PAIR if pair[0] in BESIDE and pair[1] in LEARNING]
PAIRS = [pair for pair in EVERY_PAIR if pair not in REFUSED]
FOLDING = [(tuner, reducer) for tuner, reducer in PAIRS if TUNERS[tuner].folds]


@pytest.mark.parametrize(("tuner", "reducer"), REFUSED)
def test_pairs_that_could_not_learn_are_refused_in_a_sentence(tuner, reducer):
    with pytest.raises(ValueError) as refusal:
        build(tuner, reducer)
    sentence = str(refusal.value)
    assert tuner in sentence and reducer in sentence and "leave out" in sentence and "\n" not in sentence


def stirred(model: StagedViT) -> StagedViT:
    """Whatever tunes moved off its start, so that no branch is silent; reducers keep theirs, but for matrices
    of zeros, behind which nothing has a gradient."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.trained().items():
            zeros = parameter.ndim > 1 and not parameter.any()
            if (".reducer." in name or ".before." in name) and not zeros:
                continue
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(noise / max(1, parameter.shape[-1] if parameter.ndim else 1) ** 0.5, alpha=0.3)
    return model


def loss_of(model: StagedViT) -> Tensor:
    logits, penalty = model.forward_with_penalty(images(model, batch=3))
    loss = F.cross_entropy(logits, torch.arange(3))
    return loss if penalty is None else loss + penalty


@torch.no_grad()
def logits_of(model: StagedViT) -> Tensor:
    return model(images(model))


@pytest.mark.parametrize(("tuner", "reducer"), [p for p in PAIRS if TUNERS[p[0]].starts_unchanged])
def test_training_starts_from_the_untuned_model(tuner, reducer):
    assert_close(logits_of(build(tuner, reducer)), logits_of(build(None, reducer)), 1e-12)


@pytest.mark.parametrize("tuner", TUNERS)
def test_it_says_of_itself_what_it_is(tuner):
    kind, model, bare = TUNERS[tuner], stirred(build(tuner, None)), build(None, None)
    assert not kind.reduces and not list(placed(model)), f"{tuner} is a reducer: it belongs into REDUCERS"
    added = set(merge(model).state_dict()) - set(bare.state_dict())
    stays = [name for name in added if not name.endswith(".bias") and not name.startswith("shared.")]
    assert kind.folds == (not stays), f"{tuner}: merge leaves {stays or 'nothing'}; set folds to {not stays}"
    start = build(tuner, None)
    torch.manual_seed(0)
    same = torch.allclose(logits_of(start), logits_of(bare), rtol=0, atol=1e-10)
    assert kind.starts_unchanged == same, f"{tuner}: set starts_unchanged to {same}"


@pytest.mark.parametrize(("tuner", "reducer"), PAIRS)
def test_two_steps_train_what_trains_and_nothing_else(tuner, reducer):
    model = stirred(build(tuner, reducer)).train()
    trained = model.trained()
    frozen = {name: value.clone() for name, value in model.named_parameters() if name not in trained}
    before = {name: value.detach().clone() for name, value in trained.items()}
    optimizer = torch.optim.SGD(trained.values(), lr=0.01)
    heard: set[str] = set()
    for _ in range(2):  # in a single one, a penalty may be just where it wants to be
        optimizer.zero_grad()
        loss_of(model).backward()
        heard |= {n for n, p in trained.items() if p.grad is not None and p.grad.abs().sum() > 0}
        optimizer.step()
    assert set(trained) - heard == set()
    assert all(torch.equal(model.get_parameter(name), value) for name, value in frozen.items())
    moved = {name for name, value in before.items() if not torch.equal(model.get_parameter(name), value)}
    # What is added to all keys of a softmax has no gradient, but for rounding
    assert not [name for name in set(before) - moved if not name.endswith(".among.key.up.bias")]
    assert all(value.grad is None for name, value in model.named_parameters() if name in frozen)


@pytest.mark.parametrize(("tuner", "reducer"), PAIRS)
def test_the_path_for_the_head_equals_the_whole_forward_pass(tuner, reducer):
    model = stirred(build(tuner, reducer))
    with torch.no_grad():
        assert_close(model(images(model)), model.run(images(model))[0], 1e-11)


@pytest.mark.parametrize(("tuner", "reducer"), FOLDING)
def test_merged_models_compute_the_same_and_hold_plain_layers(tuner, reducer):
    model = stirred(build(tuner, reducer))
    merged = merge(model)
    assert_close(logits_of(merged), logits_of(model), 1e-10)
    plain = build(None, reducer)
    grown = {name for name in merged.state_dict() if name not in plain.state_dict()}
    assert all(name.endswith(".bias") for name in grown)  # a shift may need a place


@pytest.mark.parametrize(("tuner", "reducer"), PAIRS)
def test_a_saved_file_holds_what_trains_and_gives_the_same_model_back(tuner, reducer, tmp_path):
    model = stirred(build(tuner, reducer))
    path: Path = tmp_path / "model.safetensors"
    save(model, path)
    again = load(path, backbone=backbone("vit"))
    assert again.methods == model.methods
    if reducer != "Bipartite":  # its refinement is rounded to one bit, in another order of sums
        assert torch.equal(logits_of(again), logits_of(model))
    assert_close(logits_of(again), logits_of(model), 1e-6)
    content = path.read_bytes()
    header = int.from_bytes(content[:8], "little")
    about = json.loads(content[8 : 8 + header])
    trained, kept = model.trained(), saved_tensors(model)
    assert set(about) - {"__metadata__"} == set(kept)
    claimed = sum(value.numel() * value.element_size() for value in trained.values())
    claimed += sum(
        value.numel() * value.element_size() for name, value in kept.items() if name not in trained
    )
    assert 8 + header < len(content) <= 8 + header + claimed
    if reducer != "Bipartite":
        assert len(content) == 8 + header + claimed
    assert header < 1500 + 200 * len(kept)


@pytest.mark.parametrize(("tuner", "family"), PLACES)
def test_every_promise_on_other_backbones(tuner, family):
    model = build(tuner, None, family)
    if TUNERS[tuner].starts_unchanged:
        assert_close(logits_of(model), backbone(family)(images(model)).detach(), 1e-12)
    model = stirred(build(tuner, "ToMe", family))
    with torch.no_grad():
        assert_close(logits_of(model), model.run(images(model))[0], 1e-11)
    if TUNERS[tuner].folds:
        assert_close(logits_of(merge(model)), logits_of(model), 1e-10)
    trained = model.train().trained()
    loss_of(model).backward()
    assert [n for n, p in trained.items() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("budget", ["mass", "sampled"])
@pytest.mark.parametrize("tuner", TUNERS)
def test_images_that_keep_their_own_number_are_what_they_are_alone(tuner, budget):
    """Every tuner beside a budget per image: padded and in sub-batches as one by one."""
    levels = {"mass": (0.6, 0.8), "sampled": (60, 30)}[budget]
    torch.manual_seed(0)
    model = compose(backbone("vit"), EViT(at=(1, 2), budget=budget, levels=levels), method(tuner))
    if needs_fit(model):
        fit(model, [(images(model, batch=6), torch.arange(6) % CLASSES)])
    model = stirred(model).eval()
    batch = images(model, batch=5) * torch.logspace(-1, 1.3, 5, dtype=torch.float64).view(-1, 1, 1, 1)
    with torch.no_grad():
        singles = torch.cat([model(batch[i : i + 1]) for i in range(5)])
        counts = {model.run(batch[i : i + 1])[1].count for i in range(5)}
        for execution in ("padded", "bucketed", "packed"):
            model.set_execution(execution)
            assert_close(model(batch), singles, 1e-10)
    assert len(counts) > 1
