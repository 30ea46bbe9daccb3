"""Many adapters on one backbone: each as if loaded alone, whatever stands beside it and whoever else runs."""

import copy
import threading
from functools import cache
from pathlib import Path

import pytest
import torch
from timm import create_model
from torch import Tensor, nn
from toys import images, toy

import vitrim
from vitrim import METHODS, REDUCERS, TUNERS, AdapterPool, compose, fit, load, merge, save
from vitrim.deploy.pool import UnknownAdapterError
from vitrim.files.sharing import held_tensors, storages
from vitrim.network.method import Method
from vitrim.network.model import StagedViT
from vitrim.training.fitting import needs_fit

CLASSES = 5
SHALLOW = 2  # blocks, where every pair is composed


@cache
def backbone(depth: int = 4) -> nn.Module:
    return toy(depth=depth)


@cache
def method(name: str) -> Method:
    return METHODS[name].example(compose(copy.deepcopy(backbone(SHALLOW))))


@cache
def pairs() -> list[tuple[str, str | None]]:
    """Every tuner with every reducer it goes with: what learns beside a side stream is refused."""
    models = {name: compose(copy.deepcopy(backbone(SHALLOW)), method(name)) for name in (*TUNERS, *REDUCERS)}
    beside = [name for name in TUNERS if models[name].side is not None]
    learning = [name for name in REDUCERS if any("head" not in part for part in models[name].trained())]
    every = [(tuner, reducer) for tuner in TUNERS for reducer in (None, *REDUCERS)]
    return [pair for pair in every if not (pair[0] in beside and pair[1] in learning)]


def trained(*methods: Method | str, depth: int = 4, seed: int = 1, classes: int = CLASSES) -> StagedViT:
    """A composition moved off its start."""
    torch.manual_seed(seed)
    model = compose(copy.deepcopy(backbone(depth)), *methods, num_classes=classes)
    if needs_fit(model):
        fit(model, [(images(model, batch=6), torch.arange(6) % classes)])
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.trained().values():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(noise / max(1, parameter.shape[-1] if parameter.ndim else 1) ** 0.5, alpha=0.3)
    return model.eval()


def saved(path: Path, *methods: Method | str, **how: object) -> Path:
    save(trained(*methods, **how), path)
    return path


@torch.no_grad()
def alone(path: Path, batch: Tensor, depth: int = 4) -> Tensor:
    return load(path, backbone=copy.deepcopy(backbone(depth)))(batch)


def batch_of(size: int = 2) -> Tensor:
    return images(backbone(), batch=size)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory) -> tuple[AdapterPool, dict[str, Path]]:
    """A pool with every tuner under every reducer."""
    folder, pool = tmp_path_factory.mktemp("crowd"), AdapterPool(backbone(SHALLOW))
    paths = {}
    for number, (tuner, reducer) in enumerate(pairs()):
        name = f"{tuner} {reducer}"
        methods = [method(part) for part in (reducer, tuner) if part is not None]
        paths[name] = saved(folder / f"{number}.safetensors", *methods, depth=SHALLOW, seed=number)
        pool.add(name, paths[name])
    return pool, paths


@pytest.mark.parametrize("tuner", TUNERS)
def test_every_composition_gives_what_it_gives_alone(tuner, crowd):
    pool, paths = crowd
    for name in (f"{tuner} {reducer}" for one, reducer in pairs() if one == tuner):
        assert torch.equal(pool.logits(batch_of(), name), alone(paths[name], batch_of(), SHALLOW)), name


def test_the_backbone_is_in_memory_once_and_as_it_was(crowd):
    pool, _ = crowd
    base = storages(held_tensors(pool._base.vit))
    assert all(torch.equal(value, backbone(SHALLOW).state_dict()[name])
               for name, value in pool._base.vit.state_dict().items())  # fmt: skip
    whole = sum(value.numel() * value.element_size() for value in backbone(SHALLOW).parameters())
    for name in pool.names():
        model = pool.model(name)
        written = {n for n, p in model.trained().items() if n in model.base_names}
        for key, value in model.vit.state_dict(keep_vars=True).items():
            if f"vit.{key}" in model.base_names and not key.startswith("head"):
                assert (value.data_ptr() in base) == (f"vit.{key}" not in written), (name, key)
        own = sum(value.numel() * value.element_size() for value in model.trained().values())
        assert pool.describe(name).bytes - own < whole / 2, name  # what it holds beside what it trained


def test_memory_of_an_adapter_is_about_its_file(crowd):
    pool, paths = crowd
    for tuner in TUNERS:
        size, file = pool.describe(f"{tuner} None").bytes, paths[f"{tuner} None"].stat().st_size
        assert size <= file * (1.3 if tuner == "FisherDelta" else 1), tuner  # its indices are unpacked too


def test_a_batch_of_all_adapters_gives_each_row_what_it_gives_alone(crowd):
    pool, _ = crowd
    names = pool.names()
    batch = batch_of(2 * len(names))
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(0)).tolist()
    adapters = [names[place % len(names)] for place in order]
    found = pool.logits_grouped(batch, adapters)
    for name in names:
        rows = [row for row, adapter in enumerate(adapters) if adapter == name]
        single = pool.logits(batch[rows], name)
        close = 1e-3 if "Bipartite" in name else 1e-9  # its one-bit rounding flips between batch sizes
        torch.testing.assert_close(torch.stack([found[row] for row in rows]), single, rtol=0, atol=close)


@pytest.mark.parametrize("family", ["vit", "siglip", "dinov3", "rope-mixed", "beit", "naflex-rotary"])
def test_rows_share_the_frozen_blocks_of_every_family(family, tmp_path):
    pool = AdapterPool(toy(family, depth=4))
    kinds = {
        "linear": ("Linear()",),
        "late": ("LoRA(rank=(0, 0, 0, 2))",),
        "reduced": ("LoRA(rank=(0, 0, 2, 2))", "Bipartite(at=(1,), learned=False)"),
        "early": ("Adapter(width=2)",),
        "before": ("SSF()",),
    }
    for kind, methods in kinds.items():
        torch.manual_seed(3)
        model = compose(toy(family, depth=4), *methods, num_classes=4)
        save(model, tmp_path / f"{kind}.safetensors")
        pool.add(kind, tmp_path / f"{kind}.safetensors")
    assert [pool.describe(kind).shared_blocks for kind in kinds] == [4, 3, 1, 0, None]
    names = [*kinds, *reversed(kinds)]
    batch = images(toy(family, depth=4), batch=len(names))
    calls = [0] * 4
    for index, stage in enumerate(pool._base.stages):
        stage.register_forward_hook(lambda *_, at=index: calls.__setitem__(at, calls[at] + 1))
    found = pool.logits_grouped(batch, names)
    assert calls == [1, 1, 1, 1]
    for row, name in enumerate(names):
        single = pool.logits(batch[row : row + 1], name)[0]
        torch.testing.assert_close(found[row], single, rtol=0, atol=1e-9)


def test_threads_on_several_adapters_never_see_each_others_weights(tmp_path):
    pool = AdapterPool(backbone())
    kinds = {"bitfit": "BitFit()", "ssf": "SSF()", "fisher": "FisherDelta()", "full": "Full()",
             "lora": "LoRA(rank=2)", "evit": "EViT(keep=0.5, at=(1,))"}  # fmt: skip
    for number, (name, text) in enumerate(kinds.items()):
        pool.add(name, saved(tmp_path / f"{name}.safetensors", text, seed=number))
    batch = batch_of()
    wanted = {name: alone(tmp_path / f"{name}.safetensors", batch) for name in kinds}
    wrong: list[str] = []
    begin, over = threading.Barrier(len(kinds) + 1), threading.Event()

    def hammer(name: str) -> None:
        begin.wait()
        for _ in range(15):
            if not torch.equal(pool.logits(batch, name), wanted[name]):
                wrong.append(name)
            rows = pool.logits_grouped(batch, [name, "lora"])
            if not torch.allclose(rows[0], wanted[name][0], rtol=0, atol=1e-9):
                wrong.append(f"{name} in a group")

    def come_and_go() -> None:
        begin.wait()
        count = 0
        while not over.is_set():
            pool.add(f"guest {count}", tmp_path / "bitfit.safetensors")
            if not torch.equal(pool.logits(batch, f"guest {count}"), wanted["bitfit"]):
                wrong.append(f"guest {count}")
            pool.remove(f"guest {count}")
            count += 1

    threads = [threading.Thread(target=hammer, args=(name,)) for name in kinds]
    guest = threading.Thread(target=come_and_go)
    for thread in (*threads, guest):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    guest.join()
    assert wrong == [] and pool.names() == list(kinds)


def test_a_running_call_outlives_the_removal_of_its_adapter(tmp_path):
    pool = AdapterPool(backbone())
    pool.add("one", saved(tmp_path / "one.safetensors", "LoRA(rank=2)"))
    wanted, seen = pool.logits(batch_of(), "one"), []

    def remove(*_: object) -> None:
        if not seen:
            seen.append(True)
            pool.remove("one")
            pool.add("one", saved(tmp_path / "two.safetensors", "LoRA(rank=2)", seed=9))

    pool.model("one").stages[1].register_forward_hook(remove)
    assert torch.equal(pool.logits(batch_of(), "one"), wanted)
    assert not torch.equal(pool.logits(batch_of(), "one"), wanted)


def test_what_is_known_of_an_adapter(tmp_path):
    model = trained("EViT(keep=0.5, at=(2,))", classes=3)
    save(model, tmp_path / "a.safetensors", classes=["cat", "dog", "owl"])
    pool = AdapterPool(backbone())
    pool.add("a", tmp_path / "a.safetensors")
    about = pool.describe("a")
    assert about.classes == ("cat", "dog", "owl") and about.outputs == 3
    assert about.image_size == (32, 32) and about.preprocessing == model.preprocess
    assert (about.task, about.methods) == ("classify", ("EViT(keep=0.5, at=(2,))",))
    assert about.bytes == 4 * 2 * (3 * 24 + 3) and about.shared_blocks == 2
    assert "a" in pool and "b" not in pool and len(pool) == 1


def test_adapters_for_other_image_sizes_share_all_but_the_places(tmp_path):
    other = compose(copy.deepcopy(backbone()), "LoRA(rank=2)", num_classes=5, image_size=48)
    save(other, tmp_path / "large.safetensors")
    pool = AdapterPool(backbone())
    pool.add("large", tmp_path / "large.safetensors")
    pool.add("small", saved(tmp_path / "small.safetensors", "LoRA(rank=2)"))
    assert pool.describe("large").image_size == (48, 48)
    large = torch.zeros(1, 3, 48, 48, dtype=torch.float64)
    assert torch.equal(pool.logits(large, "large"), alone(tmp_path / "large.safetensors", large))
    assert torch.equal(pool.logits_grouped(large, ["large"])[0], pool.logits(large, "large")[0])
    with pytest.raises(ValueError, match="'small' takes images of 32x32 pixels and this batch has 48x48"):
        pool.logits_grouped(large.repeat(2, 1, 1, 1), ["large", "small"])


def test_what_is_refused_is_refused_in_a_sentence_and_changes_nothing(tmp_path):
    pool = AdapterPool(backbone())
    good = saved(tmp_path / "good.safetensors", "LoRA(rank=2)")
    pool.add("good", good)
    other = compose(toy(depth=4, seed=8), "LoRA(rank=2)")
    save(other, tmp_path / "other.safetensors")
    save(merge(trained("LoRA(rank=2)")), tmp_path / "merged.safetensors")
    kin = compose(toy("qk-norm", depth=4), "LoRA(rank=2)")
    save(kin, tmp_path / "kin.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(good.read_bytes()[:-50])
    cases = [
        ("good", good, "adapter 'good' already"),
        (" ", good, "needs a name"),
        ("a", tmp_path / "none.safetensors", "there is no run folder or model file"),
        ("a", tmp_path, "not a run folder"),
        ("a", tmp_path / "cut.safetensors", "not a readable safetensors file"),
        ("a", tmp_path / "other.safetensors", "trained on other weights"),
        ("a", tmp_path / "kin.safetensors", "built otherwise"),
        ("a", tmp_path / "merged.safetensors", "merged model"),
    ]
    for name, path, message in cases:
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            pool.add(name, path)
    assert pool.names() == ["good"]
    for call in (
        lambda: pool.logits(batch_of(), "god"),
        lambda: pool.remove("god"),
        lambda: pool.model("god"),
    ):
        with pytest.raises(UnknownAdapterError, match="no adapter 'god' here; did you mean good"):
            call()
    with pytest.raises(ValueError, match="one adapter for each of the 2 images"):
        pool.logits_grouped(batch_of(), ["good"])
    with pytest.raises(ValueError, match="as a tensor"):
        pool.logits([[1.0]], "good")
    with pytest.raises(ValueError, match="carries LoRA"):
        AdapterPool(trained("LoRA(rank=2)"))


@pytest.mark.parametrize("included", [False, True])
def test_a_saved_run_says_what_its_backbone_is(included, tmp_path):
    torch.manual_seed(2)
    for name, text in (("one", "LoRA(rank=2)"), ("two", "SSF()")):
        model = compose("vitrim_tiny_patch8_96", text, num_classes=3)
        save(model, tmp_path / f"{name}.safetensors", include_backbone=included)
    pool = AdapterPool(tmp_path / "one.safetensors")
    batch = torch.zeros(1, 3, 96, 96)
    for name in ("one", "two"):
        pool.add(name, tmp_path / f"{name}.safetensors")
        with torch.no_grad():
            assert torch.equal(pool.logits(batch, name), load(tmp_path / f"{name}.safetensors")(batch))
    assert pool.describe("one").bytes < 100_000
    with pytest.raises(ValueError, match="says what its backbone is"):
        AdapterPool(tmp_path / "one.safetensors", pretrained=True)


def test_a_backbone_of_the_same_weights_that_computes_otherwise_is_another_one(tmp_path):
    small = {"depth": 1, "embed_dim": 24, "num_heads": 2, "num_classes": 3}
    plain, quick = (create_model(f"vit_base_patch32_clip_{kind}224", **small)
                    for kind in ("", "quickgelu_"))  # fmt: skip
    quick.load_state_dict(plain.state_dict())
    save(compose(copy.deepcopy(plain), "LoRA(rank=2)"), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="built otherwise"):
        AdapterPool(quick).add("a", tmp_path / "a.safetensors")
    AdapterPool(plain).add("a", tmp_path / "a.safetensors")


def test_the_module_that_was_given_is_left_alone(tmp_path):
    given = toy(depth=4)
    parts, before = list(given.modules()), copy.deepcopy(given.state_dict())
    trains = [weight.requires_grad for weight in given.parameters()]
    pool = AdapterPool(given)
    pool.add("a", saved(tmp_path / "a.safetensors", "BitFit()"))
    pool.logits(batch_of(), "a")
    assert list(given.modules()) == parts and trains == [
        weight.requires_grad for weight in given.parameters()
    ]
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    assert vitrim.AdapterPool is AdapterPool
