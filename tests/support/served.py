"""Adapters on the bundled backbone, pictures of many kinds, and an application to ask without a network."""

import asyncio
import io
import struct
import threading
import zlib
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy
import pytest
import torch
from fastapi import FastAPI
from PIL import Image
from tuned import stir

import vitrim
from vitrim.deploy.pool import AdapterPool
from vitrim.deploy.serving.server import address_of, listen, make_server
from vitrim.deploy.serving.settings import Serving
from vitrim.network.target_scale import TargetScale

BACKBONE = "vitrim_tiny_patch8_96"
ADDRESS = "http://127.0.0.1:8000"
METHODS: dict[str, tuple[str, ...]] = {
    "lora": ("LoRA(rank=2)",),
    "sparse": ("DenseAdapter(width=4)", "EViT(keep=0.5, at=(3,))"),
    "labels": ("SSF()",),
    "numbers": ("BitFit()",),
}
CLASSES = {
    "lora": ("red", "green", "blue", "<img src=x onerror=alert(1)>"),
    "sparse": tuple(f"sparse {index}" for index in range(6)),
    "labels": ("water", "grass", "sky"),
    "numbers": ("weight", "price"),
}
Answer = list[tuple[str, float]]
UNITS = {"weight": 10.0, "price": 300.0}  # what an output of 1 means; of all others 1


def save_adapters(folder: Path) -> dict[str, Path]:
    """One file for each: classes, classes with fewer tokens, labels, numbers to predict."""
    paths = {}
    for seed, (name, methods) in enumerate(METHODS.items()):
        torch.manual_seed(seed)  # of the classifier
        model = vitrim.compose(BACKBONE, *methods, num_classes=len(CLASSES[name]))
        stir(model, seed).classes = CLASSES[name]
        if name == "labels":
            model.task = "multilabel"
        if name == "numbers":
            units = tuple(UNITS[target] for target in CLASSES[name])
            model.task, model.scale = "regress", TargetScale((70.0, 1000.0), units)
        paths[name] = folder / f"{name}.safetensors"
        vitrim.save(model, paths[name])
    return paths


def same(one: Answer, other: Answer) -> None:
    """Equal answers: float32 rounds otherwise in other batches, by the unit of what an output stands for."""
    assert [name for name, _ in one] == [name for name, _ in other]
    for (name, value), (_, expected) in zip(one, other, strict=True):
        assert value == pytest.approx(expected, rel=1e-5, abs=2e-6 * UNITS.get(name, 1.0)), name


def pool_of(paths: dict[str, Path]) -> AdapterPool:
    pool = AdapterPool(BACKBONE)
    for name, path in paths.items():
        pool.add(name, path)
    return pool


@contextmanager
def running_server(application: FastAPI, serving: Serving) -> Iterator[str]:
    """The address of an application that answers on a free port of this machine; at the end it has ended."""
    listening = listen("127.0.0.1", 0)
    server = make_server(application, serving)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield address_of(listening)
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


class Pool:
    """A pool whose computing can be watched, held up or broken."""

    def __init__(self, real: AdapterPool) -> None:
        self.real = real
        self.batches: list[tuple[str, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def before(self, adapters: Sequence[str]) -> None:
        """What happens first; replaced by tests."""

    def logits_grouped(self, images: torch.Tensor, adapters: Sequence[str]) -> list[torch.Tensor]:
        self.batches.append(tuple(adapters))
        self.before(adapters)
        return self.real.logits_grouped(images, adapters)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def drawing(seed: int = 0, size: tuple[int, int] = (130, 90)) -> Image.Image:
    """A smooth picture that is no two times the same, and not symmetric."""
    generator = numpy.random.default_rng(seed)
    coarse = generator.integers(0, 256, (5, 7, 3), dtype=numpy.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def pictures() -> dict[str, bytes]:
    """Files by name, in what cameras and programs write."""
    turned = Image.Exif()
    turned[274] = 6
    deep = Image.fromarray(numpy.asarray(drawing(3).convert("L")).astype(numpy.uint16) * 257)
    clear = drawing(4).convert("RGBA")
    clear.putalpha(drawing(5).convert("L"))
    return {
        "plain.png": encoded(drawing(1)),
        "turned.jpg": encoded(drawing(2), "JPEG", exif=turned),
        "large.jpg": encoded(drawing(6, (900, 700)), "JPEG"),
        "deep.png": encoded(deep),
        "clear.png": encoded(clear),
        "palette.gif": encoded(drawing(7).convert("P"), "GIF"),
        "printed.jpg": encoded(drawing(8).convert("CMYK"), "JPEG"),
        "grey.webp": encoded(drawing(9).convert("L"), "WEBP"),
        "scan.tiff": encoded(drawing(10), "TIFF"),
    }


def huge_header() -> bytes:
    """A PNG of a few bytes whose header declares 30,000 x 30,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def client(application: FastAPI, address: str = ADDRESS, **options: Any) -> httpx.AsyncClient:
    """A client inside the process: the application is called, no socket is opened."""
    transport = httpx.ASGITransport(application, **options)
    return httpx.AsyncClient(transport=transport, base_url=address, timeout=30)


def ask(application: FastAPI, method: str, path: str, **options: Any) -> httpx.Response:
    """One request."""

    async def one() -> httpx.Response:
        async with client(application) as http:
            return await http.request(method, path, **options)

    return together(one())


def together(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)
