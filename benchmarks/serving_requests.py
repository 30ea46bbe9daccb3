"""The adapters, pictures and requests of `serving.py`: good ones in four forms, and bad ones of six kinds."""

import base64
import random
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import numpy
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

import vitrim

ADAPTERS = {
    "lora": ("LoRA(rank=4)",),
    "sparse-tuning": ("DenseAdapter(width=8)", "EViT(keep=0.7, at=(3, 6, 9))"),
    "fpet": ("Bipartite(at=(6,))", "Adapter(width=8)"),
    "ssf": ("SSF()",),
}
CLASSES, TOP = 10, 3
HUGE = 100_000_000
FORMS = ("bytes", "form", "json", "protocol")
EXPECTED = {
    "cut short": 422,
    "pixels": 413,
    "no picture": 422,
    "no adapter": 404,
    "large": 413,
    "chunked": 413,
}


def make_adapters(folder: Path) -> dict[str, Path]:
    """Four compositions with random weights, so that each answers something else."""
    paths = {}
    for seed, (name, methods) in enumerate(ADAPTERS.items()):
        torch.manual_seed(seed)
        parsed = [vitrim.parse_method(text) for text in methods]
        model = vitrim.compose("vitrim_tiny_patch8_96", *parsed, num_classes=CLASSES)
        with torch.no_grad():
            for value in model.trained().values():
                value.add_(0.05 * torch.randn_like(value))
        paths[name] = folder / f"{name}.safetensors"
        vitrim.save(model, paths[name], classes=[f"{name} {index}" for index in range(CLASSES)])
    return paths


def make_pictures(folder: Path) -> list[Path]:
    """Crops of two photographs in the formats, modes and orientations that cameras and programs write."""
    folder.mkdir()
    drawn = random.Random(0)
    photographs = [Image.fromarray(array) for array in load_sample_images().images]
    kinds = [
        ("jpg", "RGB"), ("jpg", "L"), ("jpg", "CMYK"), ("png", "RGB"), ("png", "RGBA"), ("png", "P"),
        ("png", "I;16"), ("webp", "RGB"), ("tiff", "RGB"), ("bmp", "RGB"), ("gif", "P"),
    ]  # fmt: skip
    paths = []
    for index in range(3 * len(kinds)):
        ending, mode = kinds[index % len(kinds)]
        side = drawn.randrange(100, 420)
        left, upper = drawn.randrange(0, 640 - side), drawn.randrange(0, 427 - min(side, 426))
        crop = photographs[index % 2].crop((left, upper, left + side, upper + side))
        if mode == "I;16":
            crop = Image.fromarray(numpy.asarray(crop.convert("L")).astype(numpy.uint16) * 257)
        elif mode != "RGB":
            crop = crop.convert(mode)
        exif = Image.Exif()
        exif[274] = 1 + index % 8  # orientation
        options = {"exif": exif} if ending in ("jpg", "webp") else {}
        paths.append(folder / f"{index:02}.{ending}")
        crop.save(paths[-1], **options)
    return paths


def huge_header() -> bytes:
    """A PNG of a few bytes that declares 30,000 x 30,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def good_request(form: str, adapter: str, picture: Path) -> dict[str, object]:
    content = picture.read_bytes()
    text = base64.b64encode(content).decode()
    if form == "protocol":
        one = {"name": "images", "datatype": "BYTES", "shape": [1], "data": [text]}
        wanted = [{"name": "probabilities"}]
        return {"url": f"/v2/models/{adapter}/infer", "json": {"inputs": [one], "outputs": wanted}}
    url = {"url": "/v1/predict", "params": {"adapter": adapter, "top": TOP}}
    if form == "form":
        return {**url, "files": {"image": (picture.name, content)}}
    return {**url, "json": {"image": text}} if form == "json" else {**url, "content": content}


def bad_request(kind: str, adapter: str, picture: Path) -> dict[str, object]:
    asked = {"url": "/v1/predict", "params": {"adapter": "nobody" if kind == "no adapter" else adapter}}
    if kind in ("large", "chunked"):
        length = {"content-length": str(HUGE)} if kind == "large" else {}
        return {**asked, "content": zeros(), "headers": length}
    content = picture.read_bytes()
    cut = content[: len(content) // 2]
    contents = {"cut short": cut, "pixels": huge_header(), "no picture": b"<html>not a picture</html>" * 50}
    return {**asked, "content": contents.get(kind, content)}


async def zeros() -> AsyncIterator[bytes]:
    for _ in range(HUGE // 1_000_000):
        yield bytes(1_000_000)
