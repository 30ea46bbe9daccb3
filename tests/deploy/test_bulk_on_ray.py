"""Bulk prediction on a Ray cluster of two nodes gives the file that one machine gives, byte for byte."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

import vitrim

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")

SIZES: dict[str, Any] = {"top": 2, "embeddings": True, "part_size": 4, "batch_size": 3, "device": "cpu"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and 24 pictures, of which one is damaged."""
    place = tmp_path_factory.mktemp("ray")
    model = vitrim.compose("vitrim_tiny_patch8_96", vitrim.LoRA(rank=2), vitrim.EViT(at=(1,)), num_classes=3)
    with torch.no_grad():
        for parameter in model.trained().values():
            parameter.copy_(torch.randn(parameter.shape) / 10)
    vitrim.save(model, place / "model.safetensors", classes=["blue", "green", "red"])
    (place / "pictures").mkdir()
    rng = numpy.random.default_rng(0)
    for index in range(24):
        pixels = rng.integers(0, 256, (100, 100, 3), numpy.uint8)
        Image.fromarray(pixels).save(place / "pictures" / f"{index:02d}.png")
    (place / "pictures/03.png").write_bytes(b"damaged")
    return place


@pytest.fixture
def two_nodes(alone_on_ray: None) -> Iterator[None]:
    """Each of one CPU: two actors can only be on both."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        cluster.add_node(**node)
        ray.init(address=cluster.address, log_to_driver=False)
        ray.data.DataContext.get_current().wait_for_min_actors_s = 120  # else one may do all there is
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.timeout(240)
def test_two_nodes_write_the_same_table(place: Path, two_nodes: None) -> None:
    here, there = place / "here.parquet", place / "there.parquet"
    run, pictures = place / "model.safetensors", place / "pictures"
    vitrim.bulk_predict(run, pictures, here, workers=0, **SIZES)
    done = vitrim.bulk_predict(run, pictures, there, on="ray", **SIZES)
    assert len(done.nodes) == 2
    assert (done.images, done.rows, done.broken, done.now) == (24, 23, 1, 24)
    assert there.read_bytes() == here.read_bytes()
    assert there.with_suffix(".broken.csv").read_bytes() == here.with_suffix(".broken.csv").read_bytes()
    bad = place / "bad"
    bad.mkdir()
    for index in range(4):
        (bad / f"{index}.jpg").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"^none of the images 0 to 3 can be read; the first: "):
        vitrim.bulk_predict(run, bad, place / "bad.parquet", on="ray", actors=1, **SIZES)
