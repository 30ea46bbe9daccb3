"""`measure_speed` on a toy: who takes turns, what a row says, what is left out and why."""

import json
import mmap
from pathlib import Path

import pytest
import torch
from toys import FAMILIES

import vitrim
from vitrim.measuring import bench
from vitrim.measuring.bench import Turn, turns_of
from vitrim.measuring.memory import peak_memory
from vitrim.network.model import StagedViT
from vitrim.speed import measuring, ways
from vitrim.speed.measuring import best_batch, measure_speed
from vitrim.speed.picture import picture
from vitrim.speed.plain import plain_macs
from vitrim.speed.rows import AGAIN, PLAIN, Candidate, Measured, rows_of

CPU = torch.device("cpu")
EVIT = "EViT(keep=0.5, at=(0,))"


def toy(*methods: str) -> StagedViT:
    return vitrim.compose(FAMILIES["vit"](depth=1), *methods)


@pytest.fixture(scope="module")
def measured() -> Measured:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "LEAST_SECONDS", 0.002)  # nothing is asked of the figures' exactness
        return measure_speed(
            toy("LoRA(rank=2)", EVIT),
            ways=("eager", "onnx", "int8"),
            rounds=3,
            largest_batch=4,
            step_batch=2,
            device="cpu",
        )


def test_everyone_takes_turns_beside_the_plain_backbone_of_the_same_way(measured: Measured) -> None:
    found = {(row.figure, row.way): [] for row in measured.rows}  # type: ignore[var-annotated]
    for row in measured.rows:
        found[row.figure, row.way].append(row.name)
    for figure in ("latency", "throughput"):
        assert found[figure, "eager"] == [PLAIN, AGAIN, "as trained", "folded"]
        assert found[figure, "onnx"] == found[figure, "int8"] == [PLAIN, AGAIN, "folded"]
    assert sorted(found["training step", "eager"]) == sorted([PLAIN, AGAIN, "as trained"])
    assert all(row.ratio == 1 for row in measured.rows if row.name == PLAIN)
    assert all(row.batch_size == 1 for row in measured.rows if row.figure == "latency")
    assert {row.batch_size for row in measured.rows if row.figure == "throughput"} <= {1, 2, 4}
    assert all(row.to_eager == row.ratio for row in measured.rows if row.way == "eager")


def test_operations_stand_beside_the_time(measured: Measured) -> None:
    shares = {row.name: row.macs for row in measured.rows if row.figure == "latency" and row.way == "eager"}
    folded = vitrim.merge(toy("LoRA(rank=2)", EVIT))
    assert shares[PLAIN] == shares[AGAIN] == 1
    assert shares["folded"] == vitrim.costs(folded).macs / plain_macs(folded)
    assert (shares["folded"] or 0) < (shares["as trained"] or 0) < 1


def test_the_record_says_what_it_was_measured_with(measured: Measured) -> None:
    record = json.loads(json.dumps(measured.to_json()))
    assert record["threads"] == torch.get_num_threads()
    assert record["versions"]["onnxruntime"][0].isdigit()
    assert record["precision"]["int8"] == "int8"
    assert record["methods"][1] == EVIT
    assert {"date", "machine", "rounds", "device"} <= set(record)
    assert len(record["rows"]) == len(measured.rows)
    assert picture(measured).startswith(b"\x89PNG")


def test_the_model_is_as_it_was() -> None:
    model = toy(EVIT)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure_speed(model, ways=("eager",), figures=("step",), rounds=3, step_batch=2, device="cpu")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_row_is_the_median_of_rounds_for_an_image() -> None:
    plain, ours = Candidate("eager", PLAIN), Candidate("onnx", PLAIN)
    turns = {plain: [Turn(1, 2), Turn(2, 2), Turn(4, 2)], ours: [Turn(4, 4), Turn(4, 4), Turn(4, 4)]}
    rows = rows_of("throughput", turns, {plain: 2, ours: 4}, {PLAIN: 1.0}, {})
    assert rows[1].to_eager == 1.0  # of 4/1, 4/2, 4/4 for twice the images
    assert (rows[1].ratio, rows[1].milliseconds, rows[1].images_per_second) == (1, 4000, 1)
    assert rows[1].memory_mib is None


def test_ways_that_cannot_be_are_left_out_in_a_sentence_and_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ways, "computes_bf16", lambda: False)
    monkeypatch.setattr(ways, "_why_not_compiled", lambda _: "no g++")
    monkeypatch.setattr(ways, "find_spec", lambda _: None)
    found = measure_speed(toy(EVIT), figures=("latency",), rounds=3, device="cpu")
    assert {row.way for row in found.rows} == {"eager"}
    assert [line.split(" ")[0] for line in found.left_out] == ["compiled", "onnx", "int8", "bf16"]
    assert "no units for bfloat16" in found.left_out[-1]
    with pytest.raises(ValueError, match=r"compiled cannot be measured: .*C\+\+ compiler"):
        measure_speed(toy(EVIT), ways=("compiled",), rounds=3, device="cpu")


def test_counts_that_depend_on_the_image_stay_out_of_files() -> None:
    with pytest.raises(ValueError, match=r"onnx cannot be measured: .*depends on the image"):
        measure_speed(toy("LTMP(at=(0,))"), ways=("onnx",), rounds=3, device="cpu")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"ways": ("fast",)}, "way must be one of 'eager'"),
        ({"figures": ("speed",)}, "figures must be one of 'latency'"),
        ({"rounds": 2}, "rounds must be at least 3"),
        ({"batch_sizes": (0,)}, "batch_size must be a whole number of at least 1, got 0"),
        ({"largest_batch": 0}, "largest_batch must be a whole number"),
    ],
)
def test_refusals(changed: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        measure_speed(toy(), device="cpu", **changed)  # type: ignore[arg-type]


def test_the_best_batch_is_where_larger_ones_bring_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def seconds(_: object, images: torch.Tensor) -> float:
        tried.append(len(images))
        return 1 + max(0.1 * len(images), len(images) - 4)  # from 4 on no better for an image

    monkeypatch.setattr(measuring, "_seconds", seconds)
    assert best_batch(lambda images: images, toy(), 64, CPU) == 4
    assert max(tried) == 16


def test_peak_memory_is_what_a_call_held_at_once() -> None:
    def take() -> None:
        for _ in range(3):  # 32 MiB, given back each time: by the system itself, as allocators may keep some
            with mmap.mmap(-1, 2**25) as pages:
                pages[:: mmap.PAGESIZE] = b"1" * (2**25 // mmap.PAGESIZE)

    found = peak_memory(take, CPU)
    if found is None:
        pytest.skip("this system does not tell a process its peak memory")
    assert 30 < found < 50


def test_short_calls_are_repeated_and_begin_with_one_that_is_not_timed() -> None:
    calls: dict[str, int] = {"a": 0, "b": 0}

    def call(name: str) -> None:
        calls[name] += 1

    turns = turns_of({"a": lambda: call("a"), "b": lambda: call("b")}, 3, CPU)
    assert all(len(found) == 3 for found in turns.values())
    assert min(calls.values()) > 100


def test_costs_are_the_same_in_inference_mode() -> None:
    model = toy(EVIT)
    outside = vitrim.costs(model), plain_macs(model)
    with torch.inference_mode():
        assert (vitrim.costs(model), plain_macs(model)) == outside


def test_a_compiled_model_answers_as_it_did(tmp_path: Path) -> None:
    if ways.why_not("compiled", CPU) is not None:
        pytest.skip("no compiler here")
    model = vitrim.compose("vitrim_tiny_patch8_96", "Linear()").eval()
    model.stages, model.vit.blocks = model.stages[:2], model.vit.blocks[:2]  # type: ignore[index]
    run = ways.prepared("compiled", model, tmp_path, "toy", CPU, any_batch=True)
    images = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        torch.testing.assert_close(run(images), model(images), atol=1e-4, rtol=1e-4)
