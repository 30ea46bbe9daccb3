"""Specs of clips: lists in all conventions, class folders, and the sampling of published data sets."""

import pytest
from drawn_clips import moving_square, numbered, write_frames, write_video

from vitrim.data import ImageError, open_data
from vitrim.data.checking import decode, findings
from vitrim.data.clips.sampling import ClipSampling
from vitrim.data.sheet import draw_sheet

LINES = {  # three conventions: how a path and a label make a line, and what the spec then has to say
    "space": ("{path} {label}", ""),
    "two spaces": ("{path}  {label}", ""),
    "comma": ("{path},{label}", ""),
    "tab": ("{path}\t{label}", "?delimiter=tab"),
    "length": ("{path} 12 {label}", "?columns=path,length,label"),
    "length and comma": ("{path},12,{label}", "?columns=path,length,label"),
    "label in the middle": ("{path} {label} 12", "?columns=path,label,length"),
}


def stored(folder, count):
    """Frame folders with spaces and commas in their names: no decoder is needed to list them."""
    names = [f"my videos/clip {index}, whole" for index in range(count)]
    for name in names:
        write_frames(folder / name, numbered(2))
    return names


def write_list(file, lines):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n\n")
    return file


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("ending", ["csv", "txt"])
def test_lists_of_every_convention(tmp_path, line, ending):
    names = stored(tmp_path, 4)
    form, options = LINES[line]
    for split, labels in {"train": (0, 1, 1, 0), "val": (1, 0, 1, 0), "test": (0, 0, 1, 1)}.items():
        lines = [form.format(path=name, label=label) for name, label in zip(names, labels, strict=True)]
        write_list(tmp_path / f"{split}.{ending}", lines)
    data = open_data(f"video:{tmp_path}/train.{ending}{options}")
    assert data.split("train").names == tuple(str(tmp_path / name) for name in names)
    assert [data.split(name).labels for name in ("train", "val", "test")] == [
        (0, 1, 1, 0),
        (1, 0, 1, 0),
        (0, 0, 1, 1),
    ]
    assert data.clips == ClipSampling() and data.called == "clips"


def test_paths_start_from_the_root_the_list_or_a_folder_called_like_the_split(tmp_path):
    for place, root in ((tmp_path / "a", tmp_path / "a"), (tmp_path / "b/train", tmp_path / "b")):
        names = stored(place, 2)
        file = write_list(
            tmp_path / "lists" / "list.txt", [f"{name} {i}" for i, name in enumerate(names)] * 3
        )
        data = open_data(f"video:{file}", root=root)
        assert {name.rpartition("/my")[0] for split in data.splits.values() for name in split.names} == {
            str(place)
        }
    absolute = [f"{place / name} {i}" for i, name in enumerate(names)] * 3
    assert open_data(f"video:{write_list(tmp_path / 'far' / 'list.csv', absolute)}").split("test")


def test_a_list_alone_is_split_by_the_seed_and_the_spec_keeps_everything(tmp_path):
    names = stored(tmp_path, 20)
    file = write_list(tmp_path / "list.txt", [f"{name} {i % 2}" for i, name in enumerate(names)])
    data = open_data(f"video:{file}?frames=4&stride=2&views=3&crops=3&augment=k400", seed=5)
    assert [len(data.split(name)) for name in ("train", "val", "trainval", "test")] == [14, 2, 16, 4]
    assert data.clips == ClipSampling(4, 2, 3, 3, "k400")
    again = open_data(data.spec, seed=9)
    assert again.spec == data.spec and again.split("test").names == data.split("test").names
    assert "frames=4&stride=2&views=3&crops=3&augment=k400&seed=5" in data.spec
    held = open_data(f"video:{file}?val=0.2")
    assert [len(held.split(name)) for name in ("train", "val")] == [16, 4]


def test_val_and_test_lists_may_be_named_and_are_never_swapped(tmp_path):
    names = stored(tmp_path, 4)
    write_list(tmp_path / "k400_train.txt", [f"{name} {i % 2}" for i, name in enumerate(names)])
    write_list(tmp_path / "k400_val.txt", [f"{names[0]} 0", f"{names[1]} 1"])
    write_list(tmp_path / "held.txt", [f"{names[2]} 1"])
    data = open_data(f"video:{tmp_path}/k400_train.txt")
    assert set(data.splits) == {"train", "val", "trainval"} and len(data.split("val")) == 2
    data = open_data(f"video:{tmp_path}/k400_train.txt?val=held.txt&test=k400_val.txt")
    assert (len(data.split("val")), len(data.split("test"))) == (1, 2)


def test_classes_are_named_by_folders_or_by_a_file(tmp_path):
    lines = []
    for label, name in enumerate(("jump", "run")):
        for index in range(3):
            write_frames(tmp_path / name / f"{index}", numbered(2))
            lines.append(f"{name}/{index} {label}")
    file = write_list(tmp_path / "list.txt", lines)
    assert open_data(f"video:{file}").classes == ("jump", "run")
    (tmp_path / "names.txt").write_text("hop\ngo\n")
    assert open_data(f"video:{file}?classes={tmp_path}/names.txt").classes == ("hop", "go")


@pytest.mark.parametrize(
    ("lines", "options", "sentence"),
    [
        (["a b"], "", "line 1: 'a b' is not path, label"),
        (["path,label", "clip,0"], "", "line 1: 'path,label' is not"),
        (["clip 0", "clip -1"], "", "line 2"),
        ([], "", "lists no clips"),
        (["gone 0", "gone 1"], "", "line 1: there is no clip gone in"),
        (["clip 12 0", "clip 12 1"], "", "columns=path,length,label"),
        (["clip 0", "gone 1"], "", "line 2: there is no file"),
        (["clip 0"], "", "one class only"),
        (["clip 0", "clip 99999999"], "", "no class number"),
        (["clip 0", "clip 1"], "?frames=0", "frames must be a whole number of at least 1"),
        (["clip 0", "clip 1"], "?views=2", "there is one view, not 2"),
        (["clip 0", "clip 1"], "?stride=x", "stride=x is not a whole number"),
        (["clip 0", "clip 1"], "?crops=2", "crops must be one of 1, 3"),
        (["clip 0", "clip 1"], "?augment=all", "augment must be one of"),
        (["clip 0", "clip 1"], "?delimiter=;", "delimiter=; must be one of comma"),
        (["clip 0", "clip 1"], "?columns=label,path", "must begin with path"),
        (["clip 0", "clip 1"], "?val=none.csv", "there is no list"),
        (["clip 0", "clip 1"], "?fps=3", "no option 'fps'"),
    ],
)
def test_what_a_list_cannot_be_is_said(tmp_path, lines, options, sentence):
    write_frames(tmp_path / "clip", numbered(1))
    file = write_list(tmp_path / "list.txt", lines)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        open_data(f"video:{file}{options}")
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_class_folders_with_and_without_splits(tmp_path):
    """Clips of one name in every class are not taken for splits or for pictures of one class."""
    for split in ("train", "val"):
        for label, name in enumerate(("left", "right")):
            for index in range(2):
                write_frames(tmp_path / "split" / split / name / f"clip{index}", moving_square(label, index))
    data = open_data(f"video-folder:{tmp_path}/split?frames=4")
    assert data.classes == ("left", "right") and set(data.splits) == {"train", "val", "trainval"}
    assert data.split("train").labels == (0, 0, 1, 1) and not data.notes
    assert data.split("train")[0][0].size == (32, 32)
    with pytest.raises(ValueError, match="seed has no effect"):
        open_data(f"video-folder:{tmp_path}/split?seed=1")
    for index in (2, 10):
        write_frames(tmp_path / "split/train/left" / f"clip{index}", numbered(2))
        write_frames(tmp_path / "split/train/right" / f"deeper/clip{index}", numbered(2))
    whole = open_data(f"video-folder:{tmp_path}/split/train", seed=3)
    assert whole.spec.endswith("seed=3") and len(whole.split("train")) == 4
    names = [name for split in ("train", "val", "test") for name in whole.split(split).names]
    assert len(names) == 8 and all("clip" in name.rpartition("/")[2] for name in names)


def test_an_empty_class_folder_of_clips_is_said(tmp_path):
    write_frames(tmp_path / "left" / "clip", numbered(2))
    (tmp_path / "right").mkdir()
    with pytest.raises(ValueError, match="class folders without clips"):
        open_data(f"video-folder:{tmp_path}")


TABLE = {  # as DyT's pipeline has them: frames, stride, views, crops, augmentation, classes
    "k400": (8, 16, 3, 1, "k400", 400),
    "ssv2": (8, 0, 1, 3, "ssv2", 174),
    "ucf101": (8, 16, 3, 1, "k400", 101),
    "hmdb51": (8, 16, 3, 1, "k400", 51),
}


@pytest.mark.parametrize("name", TABLE)
def test_published_sets_bring_their_sampling_and_classes(tmp_path, name):
    *sampling, classes = TABLE[name]
    write_frames(tmp_path / "clip", numbered(2))
    write_list(tmp_path / "train.csv", ["clip 0", "clip 1"])
    write_list(tmp_path / "val.csv", ["clip 1"])
    for data in (open_data(f"{name}:{tmp_path}"), open_data(name, root=tmp_path)):
        assert data.clips == ClipSampling(*sampling) and len(data.classes) == classes
    assert open_data(f"{name}:{tmp_path}?views=1&frames=4").clips.frames == 4
    write_list(tmp_path / "val.csv", [f"clip {classes}"])
    with pytest.raises(ValueError, match=rf"line 1: label {classes}, but {name} has {classes} classes"):
        open_data(f"{name}:{tmp_path}")


def test_a_published_set_in_class_folders(tmp_path):
    for split in ("train", "val"):
        for name in ("abseiling", "zumba"):
            write_frames(tmp_path / split / name / "clip", numbered(2))
    data = open_data(f"k400:{tmp_path}")
    assert data.clips.stride == 16 and data.classes == ("abseiling", "zumba")
    assert "2 class folders where k400 has 400 classes" in data.notes


def test_check_and_sheet_look_at_clips(tmp_path):
    """Every frame is decoded; a clip of val that is in test again is found whatever it is called."""
    for index in range(3):
        for label, name in enumerate(("left", "right")):
            write_frames(tmp_path / name / f"clip{index}", moving_square(label, 5 * index + label))
    bad = write_video(tmp_path / "left" / "bad.mp4", numbered(6))
    bad.write_bytes(bad.read_bytes()[:-200])
    data = open_data(f"video-folder:{tmp_path}?frames=4")
    assert findings(data)[0] == []
    decoded = decode(data, every=True)
    assert decoded.images == 7 and dict(decoded.sizes) == {(32, 32): 6} and not decoded.repeated
    assert len(decoded.broken) == 1 and str(bad) in decoded.broken[0]
    assert draw_sheet(data, tmp_path / "sheet.png").stat().st_size > 1000
    with pytest.raises(ImageError, match="cut short"):
        data.split("train").read(str(bad))
