"""Pictures of chosen weights are drawn where there is something to draw, and nowhere else."""

import torch
from naive_scores import batches_for
from PIL import Image
from toys import toy

from vitrim import FisherDelta, compose, fit
from vitrim.data import open_data
from vitrim.network.model import StagedViT
from vitrim.report.charts.selection import overlaps, selection, token_redundancy

PNG = b"\x89PNG"


def fitted(size: int) -> StagedViT:
    model = compose(toy(dtype=torch.float32), FisherDelta())
    fit(model, batches_for(model, size=size))
    return model.eval()


def test_runs_with_chosen_weights_get_three_pictures(tmp_path) -> None:  # type: ignore[no-untyped-def]
    for split in ("train", "val", "test"):
        for colour in ("red", "blue"):
            (tmp_path / split / colour).mkdir(parents=True)
            for i in range(3):
                Image.new("RGB", (32, 32), colour).save(tmp_path / split / colour / f"{i}.png")
    source = open_data(f"folder:{tmp_path}")
    models = {"one": fitted(2), "other": fitted(4)}
    pictures = selection(models, source)
    assert len(pictures) == 3 and all(each.png(dpi=40).startswith(PNG) and each.words for each in pictures)
    found = overlaps(models)
    assert found["one", "one"][0] == 1 and found["one", "other"] == found["other", "one"]
    assert len(selection({"one": models["one"]}, source)) == 2
    assert selection({"plain": compose(toy(dtype=torch.float32))}, source) == []
    assert len(token_redundancy(models["one"], source)) == 12
