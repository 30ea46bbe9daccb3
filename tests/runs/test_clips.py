"""Runs on clips: measured over views, broken clips counted and named, named again by predict."""

import json

import pytest
import torch
from drawn_clips import moving_square, write_frames, write_video
from small_runs import toy_vit

import vitrim
from vitrim.cli.main import main
from vitrim.data import open_data
from vitrim.data.clips.sampling import ClipSampling
from vitrim.data.clips.transforms import ClipViews
from vitrim.data.transforms import eval_transform
from vitrim.runs.evaluate import answer
from vitrim.runs.predict import predict
from vitrim.training.loop import train

CLASSES = 6
SETTINGS = {"epochs": 2, "batch_size": 6, "warmup_epochs": 0, "drop_last": False, "bad_images": 2}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Six classes, 2 + 2 clips each, train and val: half mp4 and half folders of frames."""
    folder = tmp_path_factory.mktemp("clips")
    for split, starts in (("train", (0, 9)), ("val", (4, 15))):
        lines = []
        for label in range(CLASSES):
            for number, start in enumerate(starts):
                name = f"{split} {label} {number}"
                if number:
                    write_frames(folder / name, moving_square(label, start))
                else:
                    name += ".mp4"
                    write_video(folder / name, moving_square(label, start))
                lines.append(f"{name},{label}")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = vitrim.compose(
        toy_vit(), vitrim.EViT(keep=0.5, at=(1,)), num_classes=CLASSES, video="Video(frames=4)"
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) / 5)
    model.classes = tuple(map(str, range(CLASSES)))
    return model.eval()


def spec_of(folder, options="frames=4&stride=2&views=2&crops=3"):
    return f"video:{folder}/train.csv?{options}"


def test_figures_of_a_split_are_those_of_single_clips(clips, model):
    """Logits averaged over views; top-5 and every view by itself, computed here clip by clip."""
    data = open_data(spec_of(clips))
    found = answer(model, data, "val", batch_size=5, cpu=True)
    samples = data.split("val").with_transform(eval_transform(model.preprocess))
    views = torch.stack([samples[index][0] for index in range(len(samples))])  # [N, V, C, T, height, width]
    with torch.inference_mode():
        single = torch.stack([model(views[:, view]) for view in range(6)], 1)  # [N, V, classes]
        assert torch.allclose(model(views), single.mean(1), atol=1e-5)
    truth = torch.tensor(data.split("val").labels)
    five = single.mean(1).topk(5).indices.eq(truth[:, None]).any(1).double().mean().item()
    assert found.metrics.top1 == pytest.approx((single.mean(1).argmax(1) == truth).double().mean().item())
    assert found.metrics.top5 == pytest.approx(five) and five < 1
    assert found.metrics.views == pytest.approx(
        (single.argmax(2) == truth[:, None]).double().mean(0).tolist()
    )
    assert found.metrics.unreadable == () and found.metrics.per_second > 0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_clip_counts_as_wrong_and_is_named(clips, model, tmp_path, workers):
    data = open_data(spec_of(clips))
    before = answer(model, data, "val", cpu=True)
    right = before.metrics.right.index(True)
    name = data.split("val").names[right]
    lines = (clips / "val.csv").read_text().splitlines()
    (tmp_path / "broken.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    lines[right] = f"{tmp_path}/broken.mp4,{data.split('val').labels[right]}"
    (tmp_path / "val.csv").write_text("\n".join(lines) + "\n")
    spec = spec_of(clips) + f"&val={tmp_path}/val.csv"
    after = answer(model, open_data(spec, root=clips), "val", cpu=True, workers=workers)
    assert after.metrics.images == before.metrics.images == 12
    assert after.metrics.unreadable == (f"{tmp_path}/broken.mp4",) and name not in after.paths
    assert sum(after.metrics.right) == sum(before.metrics.right) - 1 and not after.metrics.right[right]
    rows = list(after.rows())
    assert rows[right]["prediction"] == "(cannot be read)" and not rows[right]["right"]
    assert after.metrics.to_json()["unreadable"] == [f"{tmp_path}/broken.mp4"]
    truth = data.split("val").labels[right]
    assert after.metrics.parts[truth]["images"] == before.metrics.parts[truth]["images"]


def test_nothing_that_can_be_read_is_no_measurement(clips, model, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "val.csv").write_text(f"{tmp_path}/broken.mp4 0\n")
    data = open_data(spec_of(clips) + f"&val={tmp_path}/val.csv", root=clips)
    with pytest.raises(ValueError, match="none of the 1 clips can be read"):
        answer(model, data, "val", cpu=True)


@pytest.fixture(scope="module")
def run(clips, tmp_path_factory):
    """A run with a broken training clip and a broken validation clip."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "bad.mp4").write_bytes((clips / "train 0 0.mp4").read_bytes()[:-300])
    for split in ("train", "val"):
        text = (clips / f"{split}.csv").read_text()
        (folder / f"{split}.csv").write_text(text + f"{folder}/bad.mp4,1\n")
    return train(
        toy_vit(),
        f"video:{folder}/train.csv?frames=4&augment=k400",
        root=clips,
        methods=["LoRA(rank=2)"],
        video="Video(temporal_embed='sincos')",
        training=SETTINGS,
        out=folder / "out",
        cpu=True,
        quiet=True,
    )


def test_training_replaces_and_counts_evaluation_counts_as_wrong(run):
    record = json.loads((run.folder / "run.json").read_text())
    bad = str(run.folder.parent / "bad.mp4")
    assert record["bad_images"] == [bad] and record["results"]["unreadable"] == [bad]
    assert record["results"]["images"] == 13 and 0 <= record["results"]["top5"] <= 12 / 13
    rows = [json.loads(line) for line in (run.folder / "history.jsonl").read_text().splitlines()]
    assert all(row["clips_per_second"] > 0 and row["val_unreadable"] == [bad] for row in rows)
    assert "?frames=4&augment=k400&stride=0&views=1&crops=1" in record["data"]["spec"]


def test_augmentation_is_said_once(clips):
    with pytest.raises(ValueError, match="the data say augment=ssv2 and the settings augment=crop"):
        train(
            toy_vit(),
            spec_of(clips, "frames=2&augment=ssv2"),
            methods=[],
            training={**SETTINGS, "augment": "crop"},
            cpu=True,
            quiet=True,
        )


def test_predict_chooses_frames_as_the_run_did(run, clips, tmp_path, capsys):
    """A file, a folder of frames, a folder of clips and a list give what the model says of the same views."""
    names = [str(clips / "val 3 0.mp4"), str(clips / "val 3 1")]
    views = ClipViews.of(eval_transform(run.model.preprocess))
    reader = open_data(run.record["data"]["spec"], root=clips).split("val").read
    with torch.inference_mode():
        wanted = run.model(torch.stack([views.read(reader, name) for name in names])).softmax(1).amax(1)
    (tmp_path / "list.txt").write_text("\n".join(names) + "\n")
    (tmp_path / "all").mkdir()
    for name in names:
        (tmp_path / "all" / name.rpartition("/")[2]).symlink_to(name)
    for given in (names, [str(tmp_path / "all")], [str(tmp_path / "list.txt")]):
        assert main(["predict", str(run.folder), *given]) in (0, None)
        lines = capsys.readouterr().out.splitlines()
        shares = [float(line.rpartition("\t")[2]) for line in lines]
        assert sorted(shares) == pytest.approx(sorted(wanted.tolist()), abs=1e-3)
    sampling = ClipSampling(frames=4, augment="k400")
    assert predict(run.model, names, clips=sampling) == predict(run.folder, names)
    with pytest.raises(ValueError, match="does not say how frames are chosen"):
        predict(run.model, names)
    with pytest.raises(FileNotFoundError, match="there is no clip"):
        predict(run.folder, [str(tmp_path / "none.mp4")])


def test_the_command_prints_views_and_speed(run, clips, capsys):
    main(["evaluate", str(run.folder), "--data", spec_of(clips), "--root", str(clips), "--cpu"])
    out = capsys.readouterr().out
    assert "among the first five" in out and "(12 clips, " in out and " clips/s, views alone " in out
