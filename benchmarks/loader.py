"""Is reading images slower than the model? Decoding, resizing and normalising against ViT-Tiny at 224 pixels.

    python benchmarks/loader.py                                     # generated images, one thread
    VITRIM_DATA=~/data python benchmarks/loader.py --json out.json  # EuroSAT and photographs beside them

Figures are processor time of one thread per image, because others may share the machine; everything takes
turns in each round, and printed is the median over rounds. On N cores both rates grow N-fold, so the last
column is the share of a training run that goes into reading images when nothing overlaps. Ways of reading:

    vitrim      read_image and the transform of evaluation: JPEG files of four times the needed size or more
                are decoded at a half, a quarter or an eighth (libjpeg's draft mode), then resized by Pillow
    and crop    the same with the random crops of augment=crop, which need more pixels of the file
    no draft    the same with every file decoded at its full size
    v2          torchvision.io and transforms.v2 on uint8 tensors: no draft mode, and of what read_image puts
                right (EXIF, 16 bits, transparency) only EXIF

Below: how far draft mode moves what the model sees, in levels of 255 and, with VITRIM_DATA, in logits.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import numpy
import torch
from PIL import Image
from torch import Tensor

from vitrim import compose
from vitrim.backbones.preprocess import Preprocess
from vitrim.data import read_image
from vitrim.data.transforms import eval_transform, train_transform
from vitrim.measuring.machine import cpu_name
from vitrim.network.model import StagedViT

MODEL = "vit_tiny_patch16_224"
WEIGHTS = "weights/vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors"
PLAIN = Preprocess(image_size=(224, 224), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic")
TRANSFORM, CROPS = eval_transform(PLAIN), train_transform(PLAIN, "crop")
LARGE = (4000, 3000)  # a 12-megapixel photograph


def main() -> None:
    options = parse_options()
    torch.set_num_threads(1)
    data = os.environ.get("VITRIM_DATA")
    with tempfile.TemporaryDirectory() as folder:
        sets = image_sets(Path(folder), data, options.images)
        reading = measure_reading(sets, options.rounds)
        computing = measure_model(options)
        difference = {name: draft_difference(files, data) for name, files in sets.items()}
    result = {"machine": describe_machine(), "reading": reading, "model": computing, "draft": difference}
    show(result)
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=2) + "\n")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=24, help="images of each set (usually 24)")
    parser.add_argument(
        "--rounds", type=int, default=5, help="rounds, of which the median is taken (usually 5)"
    )
    parser.add_argument("--batch", type=int, default=32, help="images at a time in the model (usually 32)")
    parser.add_argument("--json", help="file for the figures")
    return parser.parse_args()


def image_sets(folder: Path, data: str | None, count: int) -> dict[str, list[Path]]:
    """Files of 64 pixels, of the given photographs' sizes, and of 12 megapixels."""
    if data is None:
        scene = Image.fromarray(smooth_noise(numpy.random.default_rng(0)))
        return {
            "generated, 64 px": saved([scene.resize((64, 64))], folder / "s", count),
            f"generated, {LARGE[0]} x {LARGE[1]}": saved([enlarged(scene)], folder / "l", 3),
        }
    eurosat = sorted((Path(data) / "vtab-1k" / "eurosat" / "images").rglob("*.jpg"))[:count]
    photographs = sorted((Path(data) / "photos").glob("*.jpg"))
    largest = [enlarged(Image.open(file).convert("RGB")) for file in photographs[-3:]]
    return {
        "EuroSAT, 64 px": eurosat,
        "photographs, 451 to 1411 px": photographs,
        f"photographs enlarged to {LARGE[0]} x {LARGE[1]}": saved(largest, folder / "l", 3),
    }


def smooth_noise(generator: numpy.random.Generator) -> numpy.ndarray:
    """A 1200 x 900 picture with as much detail as a photograph: noise of several sizes added up."""
    total = numpy.zeros((900, 1200, 3))
    for size in (4, 16, 64, 256):
        coarse = Image.fromarray(generator.integers(0, 256, (size * 3 // 4, size, 3), numpy.uint8))
        total += numpy.asarray(coarse.resize((1200, 900), Image.Resampling.BICUBIC), float) / 4
    return total.clip(0, 255).astype(numpy.uint8)


def enlarged(image: Image.Image) -> Image.Image:
    return image.resize(LARGE, Image.Resampling.LANCZOS)


def saved(images: Sequence[Image.Image], folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    files = [folder / f"{index}.jpg" for index in range(count)]
    for index, file in enumerate(files):
        images[index % len(images)].save(file, quality=90)
    return files


def ours(file: Path) -> Tensor:
    return TRANSFORM(read_image(file, TRANSFORM.at_least))


def cropped(file: Path) -> Tensor:
    return CROPS(read_image(file, CROPS.at_least))


def without_draft(file: Path) -> Tensor:
    return TRANSFORM(read_image(file))


def by_v2(file: Path) -> Tensor:
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms.v2 import functional

    pixels = decode_image(str(file), ImageReadMode.RGB, apply_exif_orientation=True)
    pixels = functional.resize(
        pixels, list(PLAIN.image_size), functional.InterpolationMode.BICUBIC, antialias=True
    )
    return functional.normalize(functional.to_dtype(pixels, torch.float32, scale=True), PLAIN.mean, PLAIN.std)


WAYS: dict[str, Callable[[Path], Tensor]] = {
    "vitrim": ours,
    "and crop": cropped,
    "no draft": without_draft,
    "v2": by_v2,
}


def measure_reading(sets: dict[str, list[Path]], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds per image, by set and way."""
    times: dict[str, dict[str, list[float]]] = {name: {way: [] for way in WAYS} for name in sets}
    for number in range(rounds + 1):  # the first warms caches
        for name, files in sets.items():
            for way, read in WAYS.items():
                started = time.thread_time()
                for file in files:
                    read(file)
                if number:
                    times[name][way].append(1e3 * (time.thread_time() - started) / len(files))
    return {
        name: {way: statistics.median(each) for way, each in ways.items()} for name, ways in times.items()
    }


def measure_model(options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds per image of ViT-Tiny: inference, and training LoRA and everything."""
    images, labels = torch.randn(options.batch, 3, 224, 224), torch.arange(options.batch) % 10
    steps: dict[str, Callable[[], None]] = {}
    for name, methods in (
        ("inference", ()),
        ("training LoRA", ("LoRA(rank=8)",)),
        ("training all", ("Full()",)),
    ):
        model = compose(MODEL, *methods, num_classes=10)
        steps[name] = inference(model, images) if name == "inference" else training(model, images, labels)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(options.rounds + 1):
        for name, step in steps.items():
            started = time.thread_time()
            step()
            if number:
                times[name].append(1e3 * (time.thread_time() - started) / options.batch)
    return {name: statistics.median(each) for name, each in times.items()}


def inference(model: StagedViT, images: Tensor) -> Callable[[], None]:
    model.eval()

    def step() -> None:
        with torch.inference_mode():
            model(images)

    return step


def training(model: StagedViT, images: Tensor, labels: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.trained().values())

    def step() -> None:
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def draft_difference(files: Sequence[Path], data: str | None) -> dict[str, float]:
    """Draft mode against decoding at full size: levels of 255 after resizing, and logits."""
    drafted, full = (torch.stack([read(file) for file in files]) for read in (ours, without_draft))
    levels = (drafted - full).abs() * 127.5  # mean and std are 0.5
    found = {"mean levels": levels.mean().item(), "largest": levels.max().item()}
    if data is not None:
        model = compose(MODEL, num_classes=1000, weights=Path(data) / WEIGHTS).eval()
        with torch.inference_mode():
            first, second = model(drafted), model(full)
        found["logits, relative"] = ((first - second).norm() / second.norm()).item()
        found["same class"] = (first.argmax(1) == second.argmax(1)).double().mean().item()
    return found


def describe_machine() -> dict[str, str]:
    return {
        "cpu": cpu_name(),
        "cores": str(os.cpu_count()),
        "load": " ".join(f"{value:.1f}" for value in os.getloadavg()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pillow": Image.__version__,
        "date": date.today().isoformat(),
    }


def show(result: dict[str, dict]) -> None:
    print(", ".join(f"{name} {value}" for name, value in result["machine"].items()))
    model = result["model"]
    print(f"\n{MODEL}, images per second and core:")
    for name, milliseconds in model.items():
        print(f"  {name:14} {1e3 / milliseconds:8.1f}   ({milliseconds:.2f} ms)")
    print("\nreading, images per second and core, and its share of training LoRA:")
    for name, ways in result["reading"].items():
        print(f"  {name}")
        for way, milliseconds in ways.items():
            share = milliseconds / (milliseconds + model["training LoRA"])
            print(f"    {way:10} {1e3 / milliseconds:8.1f}   ({milliseconds:.2f} ms)   {100 * share:5.1f} %")
    print("\ndraft mode against full decoding:")
    for name, found in result["draft"].items():
        print(f"  {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in found.items()))


if __name__ == "__main__":
    main()
