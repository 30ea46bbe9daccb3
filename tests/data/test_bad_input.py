"""The catalogue of bad input: each mistake is answered by one sentence that says what to do; what only looks
odd works. A row says how it is made, what is called, and the sentence or the right outcome.
"""

import os
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import archives
import numpy
import pytest
from archives import picture, write
from PIL import Image

from vitrim.backbones.preprocess import Preprocess
from vitrim.cli.main import main
from vitrim.data import Split, open_data, read_image
from vitrim.data.transforms import eval_transform, train_transform
from vitrim.settings.training import Training

PLAIN = Preprocess(image_size=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Case:
    make: Callable[[Path], object]
    call: Callable[[Path], Any]
    answer: str | Callable[[Any], bool]  # HERE in a sentence is the folder everything is made in


def spec(
    text: str, answer: str | Callable[[Any], bool], make: Callable[[Path], object] = lambda here: None
) -> Case:
    """Opening a data set; HERE is the root as well."""
    return Case(make, lambda here: open_data(text.replace("HERE", str(here)), root=here), answer)


def image(name: str, answer: str | Callable[[Any], bool], make: Callable[[Path], object]) -> Case:
    """Reading one image file; `make` gives its bytes or writes it."""

    def made(here: Path) -> None:
        content = make(here / name)
        if isinstance(content, bytes):
            (here / name).write_bytes(content)

    return Case(made, lambda here: read_image(here / name), answer)


def command(line: str, answer: str, make: Callable[[Path], object] = lambda here: None) -> Case:
    """`vitrim ...`, which ends with exit code 2."""

    def run(here: Path) -> None:
        assert main([part.replace("HERE", str(here)) for part in line.split()]) == 2

    return Case(make, run, answer)


def folders(**counts: int) -> Callable[[Path], None]:
    """Class folders with so many images; "__" in a name stands for "/"."""

    def make(here: Path) -> None:
        for name, count in counts.items():
            (here / name.replace("__", "/")).mkdir(parents=True)
            for index in range(count):
                picture(here / name.replace("__", "/") / f"{index}.png", index % 2)

    return make


def vtab(task: str, **files: bytes | str) -> Callable[[Path], None]:
    """A VTAB folder with two images and lists of the given content; "_" before an ending stands for "."."""

    def make(here: Path) -> None:
        for name in ("0.png", "1.png", "images/0.png", "images/1.png"):
            picture(here / "vtab" / task / name, 0)
        for name, content in files.items():
            stem, _, ending = name.rpartition("_")
            (here / "vtab" / task / f"{stem}.{ending}").write_bytes(
                content if isinstance(content, bytes) else content.encode()
            )

    return make


def fgvc(
    train: str, test: str = '{"a.png": 1}', images: tuple[str, ...] = ("a.png", "b.png")
) -> Callable[[Path], None]:
    def make(here: Path) -> None:
        for name in images:
            picture(here / "cub" / "images" / name, 0)
        write(here / "cub" / "train.json", train)
        write(here / "cub" / "test.json", test)

    return make


def few(lines: str, *names: str) -> Callable[[Path], None]:
    def make(here: Path) -> None:
        for name in ("0.png", "1.png"):
            picture(here / "pets" / "images" / name, 0)
        for name in names or ("train_meta.list.num_shot_4.seed_1", "test_meta.list"):
            write(here / "pets" / "annotations" / name, lines)

    return make


def table(content: str | bytes) -> Callable[[Path], None]:
    def make(here: Path) -> None:
        for name in ("0.png", "1.png", "my pictures/2.png"):
            picture(here / name, 0)
        (here / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def noise(path: Path) -> bytes:
    """64 x 64 random pixels in the format of the name, as bytes."""
    Image.fromarray(numpy.random.default_rng(0).integers(0, 255, (64, 64, 3), numpy.uint8)).save(path)
    return path.read_bytes()


def saved(picture: Image.Image, **how: Any) -> Callable[[Path], None]:
    return lambda path: picture.save(path, **how)


def is_colour(*wanted: int) -> Callable[[Image.Image], bool]:
    return lambda found: found.mode == "RGB" and numpy.allclose(found.getpixel((2, 1)), wanted, atol=6)


def counts(**wanted: int) -> Callable[[Any], bool]:
    return lambda data: {name: len(split) for name, split in data.splits.items()} == wanted


def half_red() -> Image.Image:
    found = Image.new("RGB", (8, 4), "red")
    found.paste("blue", (0, 0, 8, 2))
    return found


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    half_red().save(path, exif=exif, quality=100, subsampling=0)


def palette_with_a_hole(path: Path) -> None:
    found = Image.new("P", (6, 4), 1)
    found.putpalette([255, 0, 0, 0, 0, 255])
    found.save(path, transparency=1)


def link_loop(path: Path) -> None:
    path.symlink_to(path.with_name("other.png"))
    path.with_name("other.png").symlink_to(path)


DATA = struct.pack(">I4sI", 0, b"IDAT", zlib.crc32(b"IDAT"))


def huge_png(path: Path) -> bytes:
    """The head of a PNG file of 50,000 x 50,000 pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + DATA


def odd_bytes(name: bytes, folder: bool) -> Callable[[Path], None]:
    def make(here: Path) -> None:
        folders(mine__ant=4, mine__bee=4)(here)
        old = here / "mine" / "bee" if folder else here / "mine" / "ant" / "0.png"
        try:
            old.rename(old.with_name(os.fsdecode(name)))
        except OSError:
            pytest.skip("this disk takes UTF-8 names only")

    return make


def many(here: Path) -> None:
    folders(good__ant=3, good__bee=3, split__train__ant=1, split__train__bee=1, split__val__ant=1)(here)


CATALOGUE: dict[str, Case] = {
    # the spec
    "empty spec": spec("", "names no kind; write kind:rest"),
    "options alone": spec("?seed=1", "names no kind"),
    "misspelt kind": spec(
        "digit", "no kind of data 'digit'; did you mean digits? there are: digits, folder, csv"
    ),
    "unknown kind": spec(
        "pictures:x", "no kind of data 'pictures'; there are: digits, folder, csv, vtab, fgvc"
    ),
    "a path without its kind": spec("HERE", "is a folder; write folder:HERE to use it as data"),
    "rest where there is none": spec("digits:7", "digits takes nothing after the colon but was given '7'"),
    "option where there is none": spec("digits?size=8", "digits has no option 'size'; it takes none"),
    "option misspelt": spec("folder:HERE/good?sed=1", "folder has no option 'sed'; it takes seed", many),
    "option twice": spec("folder:HERE/good?seed=1&seed=2", "gives 'seed' twice", many),
    "option without value": spec("folder:HERE/good?seed=", "'seed=' is not key=value", many),
    "seed is a word": spec("folder:HERE/good?seed=x", "folder option seed=x is not a whole number", many),
    # folders
    "no path": spec("folder:", "folder needs a path: write folder:PATH"),
    "missing folder": spec("folder:HERE/nowhere", "there is no folder HERE/nowhere"),
    "missing relative folder": spec("folder:no/where", "there is no folder HERE/no/where"),
    "file for a folder": spec(
        "folder:HERE/f.txt",
        "HERE/f.txt is a file, not a folder; give the folder of the class folders",
        lambda here: write(here / "f.txt", "x"),
    ),
    "empty folder": spec(
        "folder:HERE", "HERE has no class folders; put the images of each class into a folder"
    ),
    "images without class folders": spec(
        "folder:HERE/flat", "has no class folders, only images (2);", folders(flat=2)
    ),
    "too few images to split": spec(
        "folder:HERE/x",
        "splitting HERE/x takes at least 3 images per class, too few in: bee (2)",
        folders(x__ant=3, x__bee=2),
    ),
    "empty class": spec(
        "folder:HERE/x",
        "class folders without images in HERE/x: bee; fill them or remove them",
        folders(x__ant=3, x__bee=0),
    ),
    "no images at all": spec(
        "folder:HERE/x",
        "there are no images in the class folders of HERE/x; known endings are .avif",
        folders(x__ant=0),
    ),
    "one class": spec(
        "folder:HERE/x", "HERE/x has one class only, ant; a classifier needs", folders(x__ant=5)
    ),
    "class missing from train": spec(
        "folder:HERE",
        "HERE/test has classes that HERE/train has not: cow",
        folders(train__ant=1, train__bee=1, test__ant=1, test__cow=1),
    ),
    "train and val differ in capitals": spec(
        "folder:HERE",
        "HERE/val has classes that HERE/train has not: Ant",
        folders(train__ant=1, train__bee=1, val__Ant=1, val__bee=1),
    ),
    "one class under two names": spec(
        "folder:HERE",
        "HERE has a class under two names: 'Ant' and 'ant'; merge or rename the folders",
        folders(Ant=3, ant=3, bee=3),
    ),
    "train alone": spec(
        "folder:HERE",
        "has train/ but neither val/ nor test/; add one of them, or give HERE/train",
        folders(train__ant=1, train__bee=1),
    ),
    "no train": spec("folder:HERE/x", "HERE/x has test/ but no train/ folder", folders(x__test__ant=1)),
    "two val folders": spec(
        "folder:HERE",
        "HERE has both val/ and valid/; keep one of them",
        folders(train__ant=1, val__ant=1, valid__ant=1),
    ),
    "seed for a split folder": spec(
        "folder:HERE/split?seed=1", "comes split into train, val: a seed has no effect, leave it out", many
    ),
    "class folder not UTF-8": spec(
        "folder:HERE/mine",
        r"'b\udcff' in HERE/mine has a name that cannot be printed; rename",
        odd_bytes(b"b\xff", True),
    ),
    "image name not UTF-8": spec(
        "folder:HERE/mine", counts(train=4, val=2, trainval=6, test=2), odd_bytes(b"\xff\xfe.png", False)
    ),
    # VTAB
    "vtab without task": spec("vtab", "vtab needs a task: write vtab:TASK with one of cifar, caltech101"),
    "misspelt task": spec("vtab:eurosatt", "no VTAB task 'eurosatt'; did you mean eurosat?"),
    "no such copy": spec(
        "vtab:dsprites_ori",
        "no folder dsprites_ori in HERE, HERE/vtab-1k or HERE/vtab; give the root of a copy with",
    ),
    "root is missing": Case(
        lambda here: None,
        lambda here: open_data("vtab:eurosat", root=here / "nowhere"),
        "the root HERE/nowhere is not a folder; give the one your copy of VTAB-1k is in",
    ),
    "root not given": Case(
        lambda here: None,
        lambda here: open_data("vtab:eurosat"),
        "vtab:eurosat needs a root: the folder that your copy of VTAB-1k is in",
    ),
    "label out of range": spec(
        "vtab:eurosat",
        "HERE/vtab/eurosat/train800.txt, line 2: label 10, but eurosat has 10 classes, 0 to 9",
        vtab("eurosat", train800_txt="0.png 3\n1.png 10\n"),
    ),
    "label missing": spec(
        "vtab:svhn",
        "train800.txt, line 2: 'label-missing' is not a path, a space and a label",
        vtab("svhn", train800_txt="0.png 3\nlabel-missing\n"),
    ),
    "label negative": spec(
        "vtab:dtd",
        "train800.txt, line 1: '0.png -1' is not a path, a space",
        vtab("dtd", train800_txt="0.png -1\n"),
    ),
    "label with a point": spec(
        "vtab:dtd",
        "test.txt, line 1: '0.png 3.0' is not a path, a space",
        vtab("dtd", test_txt="0.png 3.0\n"),
    ),
    "listed file missing": spec(
        "vtab:dmlab",
        "HERE/vtab/dmlab/val200.txt, line 2: there is no file HERE/vtab/dmlab/images/7.png",
        vtab("dmlab", val200_txt="0.png 1\nimages/7.png 1\n"),
    ),
    "empty list": spec(
        "vtab:kitti", "HERE/vtab/kitti/val200.txt lists no images", vtab("kitti", val200_txt="\n")
    ),
    "list not UTF-8": spec(
        "vtab:resisc45",
        "val200.txt is not a UTF-8 text file",
        vtab("resisc45", val200_txt=b"\xff\xfe\x00\x80 1"),
    ),
    "folder without lists": spec(
        "vtab:sun397", "HERE/vtab/sun397 has none of the lists train800.txt", vtab("sun397")
    ),
    "too few class names": spec(
        "vtab:kitti",
        "classes.txt names 1 different classes on 1 lines, but kitti has 4",
        vtab("kitti", val200_txt="0.png 1\n", classes_txt="only one\n"),
    ),
    "json entry empty": spec(
        "vtab:dtd", 'test.json, entry 1: {} is not {"file name": label}', vtab("dtd", test_json="[{}]")
    ),
    "json object for a list": spec(
        "vtab:dtd", "HERE/vtab/dtd/test.json is not a list of", vtab("dtd", test_json='{"0.png": 1}')
    ),
    "json cut short": spec(
        "vtab:dtd", "HERE/vtab/dtd/test.json, line 1: not valid JSON", vtab("dtd", test_json='[{"0.png": 1},')
    ),
    "json nested deep": spec(
        "vtab:dtd",
        "test.json is no file of this kind: its JSON is nested",
        vtab("dtd", test_json="[" * 9_999),
    ),
    "json number without end": spec(
        "vtab:dtd",
        "test.json is no file of this kind: a number in it has thousands of digits",
        vtab("dtd", test_json='[{"0.png": ' + "9" * 5000 + "}]"),
    ),
    "json object nested deep": spec(
        "fgvc:cub", "train.json is no file of this kind: its JSON is nested", fgvc('{"a":' * 9_999)
    ),
    "label of thousands of digits": spec(
        "vtab:dtd",
        "is not a path, a space and a label",
        vtab("dtd", train800_txt="0.png " + "9" * 5000 + "\n"),
    ),
    "json label is a word": spec(
        "vtab:dtd",
        "entry 2: {'1.png': 'cat'} is not",
        vtab("dtd", test_json='[{"0.png": 1}, {"1.png": "cat"}]'),
    ),
    # fine-grained
    "fgvc misspelt": spec("fgvc:cubs", "no fine-grained data set 'cubs'; did you mean cub?"),
    "fgvc not there": spec(
        "fgvc:cub", "no CUB-200-2011 in HERE: looked for a folder CUB or CUB_200_2011 or CUB200 or cub there"
    ),
    "root with a train folder of something else": spec(
        "fgvc:cub", "no CUB-200-2011 in HERE: looked for", folders(train__ant=2, train__bee=2, test__ant=1)
    ),
    "another data set": spec(
        "fgvc:dogs",
        "the lists hold 121 classes, but Stanford Dogs has 120; give the root of this data set",
        lambda here: (
            picture(here / "a.png", 0),
            write(here / "train.json", '{"a.png": 0}'),
            write(
                here / "test.json", "{" + ", ".join(f'"{"./" * n}a.png": {n}' for n in range(1, 121)) + "}"
            ),
        ),
    ),
    "json list for an object": spec("fgvc:cub", "HERE/cub/train.json is not an object", fgvc("[1, 2]")),
    "json key twice": spec(
        "fgvc:cub",
        "train.json, entry 2: 'a.png' is there twice (entry 1 as well)",
        fgvc('{"a.png": 1, "a.png": 2}'),
    ),
    "class id not whole": spec(
        "fgvc:cub", "entry 1: the class id of 'a.png' is 1.5, not a whole number", fgvc('{"a.png": 1.5}')
    ),
    "class id is an object": spec(
        "fgvc:cub", "the class id of 'a.png' is an object, not a whole number", fgvc('{"a.png": {"id": 1}}')
    ),
    "image in no usual place": spec(
        "fgvc:cub",
        "train.json, entry 1: there is no x.png in HERE/cub/images, HERE/cub",
        fgvc('{"x.png": 1}'),
    ),
    "fgvc list missing": spec(
        "fgvc:cub",
        "has images.txt but no image_class_labels.txt; both come with the original archive",
        lambda here: write(here / "cub" / "images.txt", "1 a.jpg\n"),
    ),
    "mat file of another kind": spec(
        "fgvc:dogs",
        "train_list.mat is not a MATLAB file with file_list and labels",
        lambda here: write(here / "dogs" / "train_list.mat", "no MATLAB"),
    ),
    "part without its list": spec(
        "fgvc:cub?part=0.1",
        "part=0.1 needs HERE/cub/train_0.1.json, which is not there; there are none",
        fgvc("{}"),
    ),
    # few-shot
    "no shots": spec(
        "fewshot:pets",
        "fewshot needs the images per class: fewshot:pets?shots=4; HERE/pets has lists of shots 4",
        few("0.png 1\n"),
    ),
    "negative shots": spec(
        "fewshot:pets?shots=-2", "fewshot option shots=-2 must be at least 1", few("0.png 1\n")
    ),
    "unknown seed list": spec(
        "fewshot:pets?shots=4&seed=2",
        "HERE/pets has no list of 4 shots with seed 2; there are shots 4 and seeds 1",
        few("0.png 1\n"),
    ),
    "few-shot label too high": spec(
        "fewshot:pets?shots=4&seed=1",
        "line 1: label 37, but there are 37 classes, 0 to 36",
        few("0.png 37\n"),
    ),
    "few-shot without a test list": spec(
        "fewshot:pets?shots=4&seed=1",
        "has neither test_meta.list nor val_meta.list",
        few("0.png 1\n", "train_meta.list.num_shot_4.seed_1"),
    ),
    "few-shot image missing": spec(
        "fewshot:pets?shots=4&seed=1",
        "line 1: there is no 9.png in HERE/pets/images, HERE/pets",
        few("9.png 1\n"),
    ),
    "few-shot misspelt": spec(
        "fewshot:oxford-petts?shots=1", "no few-shot data set 'oxfordpetts'; did you mean oxfordpets?"
    ),
    "more shots than images": spec(
        "fewshot:HERE/x?shots=5",
        "5 shots need 5 training images per class, too few in: bee (3)",
        folders(x__ant=20, x__bee=5),
    ),
    # tables
    "table missing": spec("csv:t.csv", "HERE/t.csv is not there; csv takes a table with"),
    "folder for a table": spec("csv:HERE", "HERE is a folder, not a file"),
    "table empty": spec("csv:t.csv", "HERE/t.csv is empty", table("")),
    "no first line": spec(
        "csv:t.csv",
        "HERE/t.csv has no path column, its first line is '0.png, 1'; name it with",
        table("0.png,1\n1.png,2\n"),
    ),
    "column not there": spec(
        "csv:t.csv?label=kind", "has no column 'kind'; it has: path, label", table("path,label\n0.png,1\n")
    ),
    "field missing": spec(
        "csv:t.csv", "line 3: 1 fields where the first line has 2", table("path,label\n0.png,1\n1.png\n")
    ),
    "label empty": spec("csv:t.csv", "line 2: nothing in the column 'label'", table("path,label\n0.png,\n")),
    "no table at all": spec(
        "csv:t.csv", "t.csv is not a table (field larger than", table(f"path,label\n{'x' * 200_000},1\n")
    ),
    "column twice": spec(
        "csv:t.csv", "has two columns called 'label'", table("path,label,label\n0.png,1,1\n")
    ),
    "one image, two labels": spec(
        "csv:t.csv", "line 3: 0.png has label 'b', but 'a' in line 2", table("path,label\n0.png,a\n0.png,b\n")
    ),
    "one image, two splits": spec(
        "csv:t.csv",
        "line 3: 0.png has split 'test', but 'train' in line 2",
        table("path,label,split\n0.png,a,train\n0.png,a,test\n"),
    ),
    "unknown split": spec(
        "csv:t.csv", "line 2: split 'fold1' is none of train,", table("path,label,split\n0.png,a,fold1\n")
    ),
    "two spellings of a class": spec(
        "csv:t.csv", "writes a class in two ways: ", table("path,label\n0.png,Cat\n1.png,cat\n")
    ),
    "table not UTF-8": spec(
        "csv:t.csv", "t.csv is not a UTF-8 text file", table("path,label\nä.png,1\n".encode("utf-16"))
    ),
    "table's image missing": spec(
        "csv:t.csv",
        "line 2: there is no image x.png in HERE; paths start from",
        table("path,label\nx.png,1\n0.png,2\n"),
    ),
    "share that is none": spec(
        "csv:t.csv?val=2",
        "csv option val=2 is not a share between 0 and 1",
        table("path,label,split\n0.png,a,train\n1.png,b,test\n"),
    ),
    "table with spaces, quotes, an absolute path": Case(
        lambda here: table(f'path;label;split\n"my pictures/2.png";a b;train\n"{here}/1.png";c;test\n\n')(
            here
        ),
        lambda here: open_data("csv:t.csv", root=here),
        counts(train=1, test=1),
    ),
    # torchvision
    "torchvision misspelt": spec(
        "torchvision:CIFAR1000", "no torchvision data set 'cifar1000'; did you mean cifar100?"
    ),
    "torchvision not there": spec(
        "torchvision:DTD",
        "torchvision:DTD is not in HERE, or not whole: it expects dtd/dtd/ there; --download fetches it",
    ),
    "torchvision option": spec(
        "torchvision:FGVCAircraft?annotation_level=wing",
        "torchvision does not open FGVCAircraft with",
        archives.aircraft,
    ),
    # images
    "truncated JPEG": image("a.jpg", "is damaged or cut short", lambda path: noise(path)[:1500]),
    "truncated PNG": image("a.png", "is damaged or cut short", lambda path: noise(path)[:4000]),
    "truncated GIF": image("a.gif", "is damaged or cut short", lambda path: noise(path)[:900]),
    "zero bytes": image("a.png", "is empty (0 bytes)", lambda path: b""),
    "a web page": image(
        "a.jpg", "is not an image in a format that Pillow can read", lambda path: b"<html>404</html>"
    ),
    "huge image": image(
        "a.ppm", "more pixels than Pillow's safety limit", lambda path: b"P6 60000 60000 255\n"
    ),
    "huge PNG": image("a.png", "more pixels than Pillow's safety limit", huge_png),
    "float image": image(
        "a.tif", "save it with 8 or 16 bits", saved(Image.fromarray(numpy.full((4, 6), 0.5, numpy.float32)))
    ),
    "missing image": Case(
        lambda here: None, lambda here: read_image(here / "a.png"), "there is no image HERE/a.png"
    ),
    "folder for an image": Case(lambda here: None, read_image, "HERE is a folder, not an image"),
    "links in a circle": image("a.png", "is a link that leads back to itself", link_loop),
    "16-bit PNG is scaled": image(
        "a.png", is_colour(4, 4, 4), saved(Image.fromarray(numpy.full((4, 6), 1000, numpy.uint16)))
    ),
    "CMYK JPEG": image("a.jpg", is_colour(255, 0, 0), saved(Image.new("RGB", (8, 8), "red").convert("CMYK"))),
    "animated GIF gives its first picture": image(
        "a.gif",
        is_colour(255, 0, 0),
        saved(
            Image.new("RGB", (6, 4), "red"), save_all=True, append_images=[Image.new("RGB", (6, 4), "blue")]
        ),
    ),
    "transparent palette becomes white": image("a.png", is_colour(255, 255, 255), palette_with_a_hole),
    "camera held upside down": image("a.jpg", is_colour(255, 0, 0), turned),
    "one pixel": image(
        "a.png",
        lambda found: eval_transform(PLAIN)(found).shape == (3, 32, 32),
        saved(Image.new("RGB", (1, 1))),
    ),
    # the command and the settings
    "no spec": command("data", "spec"),
    "option of the command misspelt": command("data digits --sheat", "no option 'sheat'; did you mean"),
    "seed of the command": command("data digits --seed x", "--seed takes a whole number, got 'x'"),
    "sheet over a folder": command("data digits --sheet HERE", "HERE"),
    "sheet into a file": command(
        "data digits --sheet HERE/f/a.png", "cannot write 'HERE/f/a.png'", lambda here: write(here / "f", "x")
    ),
    "download of what cannot be fetched": command(
        "data folder:HERE --download", "folder has nothing to download"
    ),
    "lists of no few-shot set": command(
        "data digits --write_lists HERE", "use fewshot:FOLDER?shots=4&seed=1"
    ),
    "misspelt task in training": command(
        "train --data vtab:eurosatt --root HERE --out HERE/run",
        "no VTAB task 'eurosatt'; did you mean eurosat?",
    ),
    "split that is not there": command(
        "train --model test_vit --method Linear --data folder:HERE/x --train_split trainval --out HERE/run",
        "has no 'trainval' split; it has: train, test",
        folders(x__train__ant=1, x__train__bee=1, x__test__ant=1, x__test__bee=1),
    ),
    "negative bad_images": Case(
        lambda here: None,
        lambda here: Training(bad_images=-1),
        "bad_images must be a whole number of at least 0",
    ),
    "labels and images differ in number": Case(
        lambda here: None,
        lambda here: Split(read_image, ["a.png", "b.png"], [0]),
        "one label per image but has 2 images, 1 labels",
    ),
}


@pytest.mark.parametrize("name", CATALOGUE)
def test_catalogue(tmp_path, name, capsys):
    case = CATALOGUE[name]
    case.make(tmp_path)
    if callable(case.answer):
        assert case.answer(case.call(tmp_path))
        return
    wanted = case.answer.replace("HERE", str(tmp_path))
    try:
        case.call(tmp_path)
        said = capsys.readouterr().err.removeprefix("vitrim: ").rstrip("\n")
    except (ValueError, OSError) as error:
        said = str(error)
    assert wanted in said and "\n" not in said


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may write everywhere")
def test_read_only_folder(tmp_path, capsys):
    (tmp_path / "closed").mkdir(mode=0o500)
    assert main(["data", "digits", "--sheet", str(tmp_path / "closed" / "a.png")]) == 2
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, sentence",
    [
        (
            {"augment": "flipp"},
            "no augmentation 'flipp'; did you mean flip? there are: none, flip,",
        ),
        ({"interpolation": "cubic"}, "no interpolation 'cubic'; did you mean bicubic?"),
        ({"channels": 4}, "mean and std have 3 values for 4 channels"),
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
