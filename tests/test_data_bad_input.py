"""Each mistake a user can make with data is answered by one sentence that says what to do."""

import re

import pytest
from PIL import Image

from vitrim.data import Split, open_data, read_image
from vitrim.data.transforms import eval_transform, train_transform
from vitrim.preprocess import Preprocess

PLAIN = Preprocess(image_size=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@pytest.fixture
def place(tmp_path):
    """A folder with some things done right and many done wrong."""

    def images(folder, count):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            Image.new("RGB", (4, 4)).save(tmp_path / folder / f"{index}.png")

    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "nothing").mkdir()
    images("flat", 2)
    for folder, count in (
        ("few/ant", 3),
        ("few/bee", 2),
        ("hole/ant", 3),
        ("hole/bee", 0),
        ("none/ant", 0),
        ("one/ant", 5),
        ("new/train/ant", 1),
        ("new/train/bee", 1),
        ("new/test/ant", 1),
        ("new/test/cow", 1),
        ("lonely/train/ant", 1),
        ("lonely/train/bee", 1),
        ("headless/test/ant", 1),
        ("twice/train/ant", 1),
        ("twice/val/ant", 1),
        ("twice/valid/ant", 1),
        ("good/ant", 3),
        ("good/bee", 3),
        ("split/train/ant", 1),
        ("split/train/bee", 1),
        ("split/val/ant", 1),
    ):
        images(folder, count)
    for task, files in VTAB.items():
        images(f"vtab/{task}", 2)
        for name, text in files.items():
            (tmp_path / "vtab" / task / name).write_bytes(text)
    return tmp_path


VTAB = {
    "eurosat": {"train800.txt": b"0.png 3\n1.png 10\n"},
    "svhn": {"train800.txt": b"0.png 3\nlabel-missing\n"},
    "dtd": {"train800.txt": b"0.png -1\n"},
    "cifar": {"test.txt": b"0.png 3.0\n"},
    "dmlab": {"val200.txt": b"0.png 1\nimages/7.png 1\n"},
    "kitti": {"val200.txt": b"\n"},
    "resisc45": {"val200.txt": b"\xff\xfe\x00\x80 1"},
    "caltech101": {},
    "patch_camelyon": {"val200.txt": b"0.png 1\n", "classes.txt": b"only one\n"},
    "clevr_dist": {"test.json": b"[{}]"},
    "clevr_count": {"test.json": b'{"0.png": 1}'},
    "sun397": {"test.json": b'[{"0.png": 1},'},
    "pets": {"test.json": b'[{"0.png": 1}, {"1.png": "cat"}]'},
}

BAD_SPECS = {  # HERE is the folder made above
    "": "names no kind; write kind:rest",
    "?seed=1": "names no kind",
    "digit": "no kind of data 'digit'; did you mean digits? there are: digits, folder, csv, vtab, fgvc",
    "imagenet:x": "no kind of data 'imagenet'; there are: digits, folder, csv, vtab, fgvc",
    "HERE": "is a folder; write folder:HERE to use it as data",
    "digits:7": "digits takes nothing after the colon but was given '7'",
    "digits?size=8": "digits has no option 'size'; it takes none",
    "folder:": "folder needs a path: write folder:PATH",
    "folder:HERE/nowhere": "there is no folder HERE/nowhere",
    "folder:nowhere/at/all": "there is no folder HERE/nowhere/at/all",
    "folder:HERE/file.txt": "HERE/file.txt is a file, not a folder; give the folder of the class folders",
    "folder:HERE/nothing": "HERE/nothing has no class folders; put the images of each class into a folder",
    "folder:HERE/flat": "has no class folders, only images (2);",
    "folder:HERE/few": "splitting HERE/few takes at least 3 images per class, too few in: bee (2)",
    "folder:HERE/hole": "class folders without images in HERE/hole: bee; fill them or remove them",
    "folder:HERE/none": "there are no images in the class folders of HERE/none; known endings are .avif",
    "folder:HERE/one": "HERE/one has one class only, ant; a classifier needs at least two",
    "folder:HERE/new": "HERE/new/test has classes that HERE/new/train has not: cow",
    "folder:HERE/lonely": "has train/ but neither val/ nor test/; add one of them, or give HERE/lonely/train",
    "folder:HERE/headless": "HERE/headless has test/ but no train/ folder",
    "folder:HERE/twice": "HERE/twice has both val/ and valid/; keep one of them",
    "folder:HERE/good?seed=x": "folder option seed=x is not a whole number",
    "folder:HERE/good?sed=1": "folder has no option 'sed'; it takes seed",
    "folder:HERE/good?seed=1&seed=2": "gives 'seed' twice",
    "folder:HERE/good?seed=": "'seed=' is not key=value",
    "folder:HERE/split?seed=1": "comes split into train, val: a seed has no effect, leave it out",
    "vtab": "vtab needs a task: write vtab:TASK with one of cifar, caltech101",
    "vtab:eurosatt": "no VTAB task 'eurosatt'; did you mean eurosat?",
    "vtab:dsprites_ori": "no folder dsprites_ori in HERE, HERE/vtab-1k or HERE/vtab",
    "vtab:eurosat": "HERE/vtab/eurosat/train800.txt, line 2: label 10, but eurosat has 10 classes, 0 to 9",
    "vtab:svhn": "HERE/vtab/svhn/train800.txt, line 2: 'label-missing' is not a path, a space and a label",
    "vtab:dtd": "HERE/vtab/dtd/train800.txt, line 1: '0.png -1' is not a path, a space and a label",
    "vtab:cifar": "HERE/vtab/cifar/test.txt, line 1: '0.png 3.0' is not a path, a space and a label",
    "vtab:dmlab": "HERE/vtab/dmlab/val200.txt, line 2: there is no file HERE/vtab/dmlab/images/7.png",
    "vtab:kitti": "HERE/vtab/kitti/val200.txt lists no images",
    "vtab:resisc45": "HERE/vtab/resisc45/val200.txt is not a UTF-8 text file",
    "vtab:caltech101": "HERE/vtab/caltech101 has none of the lists train800.txt, val200.txt",
    "vtab:patch_camelyon": "classes.txt names 1 different classes on 1 lines, but patch_camelyon has 2",
    "vtab:clevr_dist": 'HERE/vtab/clevr_dist/test.json, entry 1: {} is not {"file name": label}',
    "vtab:clevr_count": "HERE/vtab/clevr_count/test.json is not a list of",
    "vtab:sun397": "HERE/vtab/sun397/test.json, line 1: not valid JSON",
    "vtab:pets": "HERE/vtab/pets/test.json, entry 2: {'1.png': 'cat'} is not",
}


@pytest.mark.parametrize("spec", BAD_SPECS)
def test_bad_spec(place, spec):
    with pytest.raises((ValueError, FileNotFoundError, NotADirectoryError)) as error:
        open_data(spec.replace("HERE", str(place)), root=place)
    assert BAD_SPECS[spec].replace("HERE", str(place)) in str(error.value)
    assert "\n" not in str(error.value)


def test_vtab_without_a_root_or_with_a_wrong_one(place):
    with pytest.raises(ValueError, match="vtab:eurosat needs a root: the folder that your copy of VTAB-1k"):
        open_data("vtab:eurosat")
    with pytest.raises(FileNotFoundError, match=r"the root .*nowhere is not a folder"):
        open_data("vtab:eurosat", root=place / "nowhere")


@pytest.mark.parametrize(
    "change, sentence",
    [
        (
            {"augment": "flipp"},
            "no augmentation 'flipp'; did you mean flip? there are: none, flip,",
        ),
        ({"interpolation": "cubic"}, "no interpolation 'cubic'; did you mean bicubic?"),
        ({"channels": 4}, "the model takes 4 channels but images have 1 or 3; use a backbone"),
        ({"mean": (0.1, 0.2)}, "mean and std have 2 values for 3 channels"),
        ({"crop": 0.0}, "crop must be above 0 and at most 1, the share kept, but is 0.0"),
        ({"crop": 1.5}, "above 0 and at most 1, the share kept, but is 1.5"),
    ],
)
def test_bad_preprocessing(change, sentence):
    settings = {"image_size": (32, 32), "mean": PLAIN.mean, "std": PLAIN.std, **change}
    augment = settings.pop("augment", "none")
    with pytest.raises(ValueError, match=re.escape(sentence)):
        train_transform(Preprocess(**settings), augment)
    if augment == "none":
        with pytest.raises(ValueError, match=re.escape(sentence)):
            eval_transform(Preprocess(**settings))


def test_split_needs_a_label_per_image():
    with pytest.raises(ValueError, match="one label per image but has 2 images, 1 labels"):
        Split(read_image, ["a.png", "b.png"], [0])
