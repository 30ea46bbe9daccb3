"""Bulk prediction: the rows of `predict`, whatever is broken, whenever it is killed, wherever it runs."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from pyarrow.parquet import read_table, write_table

import vitrim
from vitrim.data.images import ImageError
from vitrim.deploy.bulk import job as jobs
from vitrim.deploy.bulk.predicting import Predicted
from vitrim.network.model import StagedViT

SIZES: dict[str, Any] = {"part_size": 8, "batch_size": 3, "workers": 0, "device": "cpu"}
BROKEN = 5  # of the pictures in order


@pytest.fixture(scope="module")
def model() -> StagedViT:
    """Features are tuned, so that a copy with all folded is another network with the same answers."""
    methods = vitrim.FirstBlocks(count=2), vitrim.LoRA(rank=2), vitrim.EViT(at=(0,))
    model = vitrim.compose("vitrim_tiny_patch8_96", *methods, num_classes=3)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.trained().values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 10)
    model.classes = ("blue", "green", "red")
    return model.eval()


@pytest.fixture(scope="module")
def run(model: StagedViT, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("saved") / "model.safetensors"
    vitrim.save(model, file)
    return str(file)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """21 pictures, of which one is damaged: three parts."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = numpy.random.default_rng(0)
    for index in range(21):
        pixels = rng.integers(0, 256, (rng.integers(90, 120), 100, 3), numpy.uint8)
        file = folder / f"{index // 7}" / f"{index:03d}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(file)
        if index == BROKEN:
            file.write_bytes(file.read_bytes()[:300])
    return folder


@pytest.fixture(scope="module")
def whole(model: StagedViT, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "preds.parquet"
    done = predicted(model, pictures, out)
    assert (done.images, done.rows, done.broken, done.now) == (21, 20, 1, 21)
    return out


def predicted(run: Any, images: Any, out: Path, **changed: Any) -> Predicted:
    return vitrim.bulk_predict(run, images, out, **{"top": 2, "embeddings": True, **SIZES, **changed})


def same(first: Path, second: Path) -> bool:
    sides = (first, second), (first.with_suffix(".broken.csv"), second.with_suffix(".broken.csv"))
    return all(one.read_bytes() == other.read_bytes() for one, other in sides)


def test_rows_are_those_of_predict_in_the_order_of_the_list(
    model: StagedViT, pictures: Path, whole: Path
) -> None:
    table = read_table(whole)
    assert table["index"].to_pylist() == [index for index in range(21) if index != BROKEN]
    good = [file for file in sorted(pictures.rglob("*.png")) if file.stem != f"{BROKEN:03d}"]
    assert table["path"].to_pylist() == list(map(str, good))
    plain = vitrim.predict(model, good, top=2, device="cpu")
    assert [name for names in table["classes"].to_pylist() for name in names] == [g.name for g in plain]
    shares = torch.tensor(table["probabilities"].to_pylist()).flatten()
    assert torch.allclose(shares, torch.tensor([guess.probability for guess in plain]), atol=1e-5)
    assert table["class"].to_pylist() == [names[0] for names in table["classes"].to_pylist()]
    assert table["probability"].to_pylist() == [best[0] for best in table["probabilities"].to_pylist()]
    (reason,) = whole.with_suffix(".broken.csv").read_text().splitlines()[1:]
    assert reason.startswith(f"{BROKEN},{pictures}/0/005.png,") and "damaged or cut short" in reason


def test_embeddings_are_what_the_classifier_reads(model: StagedViT, pictures: Path, whole: Path) -> None:
    from vitrim.data.images import read_image
    from vitrim.data.transforms import eval_transform

    embeddings = torch.tensor(read_table(whole)["embedding"].to_pylist())  # [B, D]
    transform = eval_transform(model.preprocess)
    first = torch.stack([transform(read_image(pictures / f"0/00{index}.png", 96)) for index in range(3)])
    with torch.inference_mode():
        assert torch.allclose(embeddings[:3], model.read_by_head(first), atol=1e-4)


def test_a_folder_and_other_processes_give_the_same_rows(
    run: str, pictures: Path, whole: Path, tmp_path: Path
) -> None:
    predicted(run, pictures, tmp_path / "folder", workers=2)
    assert read_table(tmp_path / "folder").equals(read_table(whole).replace_schema_metadata(None))
    assert (tmp_path / "folder/_broken.csv").read_bytes() == whole.with_suffix(".broken.csv").read_bytes()
    manifest = json.loads((tmp_path / "folder/_manifest.json").read_text())
    assert manifest["complete"] and [part["rows"] for part in manifest["parts"]] == [7, 8, 5]
    again = predicted(run, pictures, tmp_path / "folder")
    assert (again.now, again.rows, again.broken) == (0, 20, 1)
    (tmp_path / "folder/part-00000001.parquet").unlink()  # of a finished folder: only it is made anew
    assert predicted(run, pictures, tmp_path / "folder").now == 8
    assert read_table(tmp_path / "folder").equals(read_table(whole).replace_schema_metadata(None))


STEPS = {  # of changing files: what the system is asked, and what is written into a file that is open
    os: ("fsync", "replace", "unlink", "rmdir", "mkdir", "open"),
    parquet: ("write_table",),
    parquet.ParquetWriter: ("write_table", "close"),
}


def killed_at(call: int, work: Callable[[], object]) -> bool:
    """Do the work in a process that SIGKILL ends at its `call`-th step of changing files; whether it did."""
    child = os.fork()
    if child == 0:
        steps = iter(range(10**6))

        def counted(original: Callable[..., Any]) -> Callable[..., Any]:
            def step(*arguments: Any, **named: Any) -> Any:
                if next(steps) == call:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*arguments, **named)

            return step

        for owner, names in STEPS.items():
            for name in names:
                setattr(owner, name, counted(getattr(owner, name)))
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the work failed"
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("one_file", [True, False])
def test_killed_at_every_step_it_ends_in_the_same_table(
    one_file: bool, model: StagedViT, pictures: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / ("preds.parquet" if one_file else "preds")
    kills = 0
    while killed_at(kills, lambda: predicted(model, pictures, out)):
        kills += 1
    assert kills > 10
    predicted(model, pictures, out)
    if one_file:
        assert same(out, whole)
        assert not out.with_name("preds.parquet.parts").exists()
    else:
        assert read_table(out).equals(read_table(whole).replace_schema_metadata(None))


@pytest.fixture
def begun(run: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table that was stopped after its first part."""
    written: list[int] = []

    def write(job: jobs.Job, part: int, *rest: Any) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(part)
        original(job, part, *rest)

    original = jobs.Job.write
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        patch.setattr(jobs.Job, "write", write)
        predicted(run, pictures, tmp_path / "begun.parquet")
    assert written == [0]
    return tmp_path / "begun.parquet"


def test_it_goes_on_with_other_batches_where_it_stopped(
    run: str, pictures: Path, begun: Path, whole: Path
) -> None:
    done = predicted(run, pictures, begun, batch_size=8)
    assert done.now == 13
    found, wanted = read_table(begun), read_table(whole)
    assert found.drop_columns(["probability", "probabilities", "embedding"]).equals(
        wanted.drop_columns(["probability", "probabilities", "embedding"])
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"top": 1}, "was begun with top=2, not top=1; give what it was begun with"),
        ({"embeddings": False}, "was begun with embeddings, not no embeddings"),
        ({"part_size": 9}, "was begun with part_size=8, not part_size=9"),
    ],
)
def test_another_table_is_not_gone_on_with(
    changed: dict[str, Any], said: str, run: str, pictures: Path, begun: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        predicted(run, pictures, begun, **changed)
    assert predicted(run, pictures, begun).now == 13


def test_other_images_and_models_are_refused(
    model: StagedViT, run: str, pictures: Path, begun: Path, whole: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(pictures, copy)
    with pytest.raises(ValueError, match=r"21 images, and those given now are 21, of which number 0 was .*"):
        predicted(run, copy, begun)
    with pytest.raises(ValueError, match="was begun with 21 images, and those given now are 7"):
        predicted(run, pictures / "0", begun)
    other = vitrim.merge(model)
    with pytest.raises(ValueError, match=r"was begun with the model .*safetensors, and a model in memory is"):
        predicted(other, pictures, begun)
    with pytest.raises(ValueError, match="was begun with the model a model in memory, which has changed"):
        predicted(other, pictures, whole)
    assert predicted(run, pictures, begun).now == 13


def test_what_lies_at_the_place_of_the_table_is_left_alone(run: str, pictures: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "mine.parquet"
    write_table(read_table_of_one(), foreign)
    before = foreign.read_bytes()
    with pytest.raises(FileExistsError, match="holds something else already; give another --out"):
        predicted(run, pictures, foreign)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years")
    with pytest.raises(FileExistsError, match=r"holds thesis.txt, which is no part of a prediction"):
        predicted(run, pictures, folder)
    assert foreign.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "mine.parquet"]
    with pytest.raises(ValueError, match=r"ends in \.parquet, or a folder, got"):
        predicted(run, pictures, tmp_path / "table.csv")


def test_a_folder_beside_a_finished_table_is_left_alone(run: str, pictures: Path, tmp_path: Path) -> None:
    out, mine = tmp_path / "preds.parquet", tmp_path / "preds.parquet.parts" / "thesis.txt"
    predicted(run, pictures / "1", out)
    assert not mine.parent.exists()
    mine.parent.mkdir()
    mine.write_text("years")
    assert predicted(run, pictures / "1", out).now == 0
    assert mine.read_text() == "years"


def read_table_of_one() -> Any:
    import pyarrow

    return pyarrow.table({"a": [1]})


def test_damaged_parts_are_told_and_made_anew(run: str, pictures: Path, begun: Path) -> None:
    part = begun.with_name("begun.parquet.parts") / "part-00000000.parquet"
    part.write_bytes(part.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"part-00000000.parquet is damaged .* delete it and give the same"):
        predicted(run, pictures, begun)
    part.unlink()
    assert predicted(run, pictures, begun).now == 21


def test_a_whole_part_of_broken_images_stops_unless_asked_otherwise(run: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(8):
        (folder / f"{index}.jpg").write_bytes(b"nothing")
    with pytest.raises(ImageError, match="none of the images 0 to 7 can be read; the first: "):
        predicted(run, folder, tmp_path / "out.parquet")
    done = predicted(run, folder, tmp_path / "out.parquet", skip_broken=True)
    assert (done.rows, done.broken) == (0, 8)
    assert read_table(tmp_path / "out.parquet").column_names[-1] == "embedding"


@pytest.mark.parametrize("task", ["multilabel", "regress"])
def test_labels_and_numbers_are_lists(
    task: str, model: StagedViT, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitrim.network.target_scale import TargetScale

    monkeypatch.setattr(model, "task", task)
    if task == "regress":
        monkeypatch.setattr(model, "scale", TargetScale((1.0, 2.0, 3.0), (1.0, 2.0, 1.0)))
    predicted(model, pictures / "1", tmp_path / "out.parquet", top=1, embeddings=False)
    plain = vitrim.predict(model, pictures / "1", top=1, device="cpu")
    table = read_table(tmp_path / "out.parquet")
    names, values = table.column_names[2:]
    assert [name for row in table[names].to_pylist() for name in row] == [guess.name for guess in plain]
    found = torch.tensor([value for row in table[values].to_pylist() for value in row])
    assert torch.allclose(found, torch.tensor([guess.probability for guess in plain]), atol=1e-4)


def test_a_backbone_without_a_classifier_embeds(pictures: Path, tmp_path: Path) -> None:
    bare = vitrim.compose("vitrim_tiny_patch8_96", num_classes=0).eval()
    done = vitrim.bulk_embed(bare, pictures / "1", tmp_path / "out.parquet", **SIZES)
    table = read_table(done.path)
    assert table.column_names == ["index", "path", "embedding"] and len(table) == 7
    with pytest.raises(ValueError, match="has no classifier, so it predicts nothing; vitrim embed"):
        predicted(bare, pictures, tmp_path / "other.parquet")
    assert not list(tmp_path.glob("other*"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"top": 4}, "top must be between 1 and the number of classes"),
        ({"workers": -1}, "workers must be a whole number of at least 0, got -1"),
        ({"part_size": 0}, "part_size must be a whole number of at least 1, got 0"),
        ({"on": "spark"}, "on must be one of 'ray', got 'spark'"),
        ({"actors": 2}, "actors are the models on a cluster; give on='ray'"),
        ({"download": True}, "download fetches data sets of the Hub"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    given: dict[str, Any], said: str, run: str, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        predicted(run, pictures, tmp_path / "out.parquet", **given)
    assert not list(tmp_path.iterdir())
