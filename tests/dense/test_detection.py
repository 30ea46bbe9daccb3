"""A reduced backbone under torchvision's detector: the loss on unseen squares falls."""

from collections import OrderedDict

import pytest
import torch
from toys import images, toy

from vitrim import EViT, LoRA, compose
from vitrim.dense.detection import DetectionBackbone, faster_rcnn


def scene(seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A bright square (class 1) or a dark one (class 2) on grey."""
    generator = torch.Generator().manual_seed(seed)
    label = 1 + int(torch.randint(2, (), generator=generator))
    left, top = (int(value) for value in torch.randint(2, 14, (2,), generator=generator))
    pixels = 0.5 + 0.05 * torch.randn(3, 32, 32, generator=generator)
    pixels[:, top : top + 14, left : left + 14] = float(label == 1)
    box = torch.tensor([[left, top, left + 14, top + 14]], dtype=torch.float32)
    return pixels, {"boxes": box, "labels": torch.tensor([label])}


def test_maps_have_the_names_and_sizes_that_torchvision_reads() -> None:
    backbone = DetectionBackbone(
        compose(toy(depth=4), EViT(keep=0.6, at=(2,)), num_classes=0), out_channels=16
    ).double()
    maps = backbone(images(backbone.staged))
    assert isinstance(maps, OrderedDict) and backbone.out_channels == 16
    assert {name: tuple(each.shape[1:]) for name, each in maps.items()} == {
        "0": (16, 32, 32), "1": (16, 16, 16), "2": (16, 8, 8), "3": (16, 4, 4), "pool": (16, 2, 2)
    }  # fmt: skip
    with pytest.raises(ValueError, match="still has a classifier of 5 outputs"):
        DetectionBackbone(compose(toy(depth=4)))


def test_torchvisions_detector_learns_on_it() -> None:
    """Every part that trains moves, the frozen backbone does not, and the loss on unseen pictures
    falls."""
    torch.manual_seed(0)
    staged = compose(toy(dtype=torch.float32, depth=3), LoRA(rank=4), EViT(keep=0.7, at=(1,)), num_classes=0)
    detector = faster_rcnn(DetectionBackbone(staged, out_channels=16), classes=3)
    detector.roi_heads.box_roi_pool.output_size = (4, 4)
    detector.roi_heads.box_head = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(256, 32), torch.nn.ReLU()
    )
    detector.roi_heads.box_predictor.cls_score = torch.nn.Linear(32, 3)
    detector.roi_heads.box_predictor.bbox_pred = torch.nn.Linear(32, 12)
    detector.roi_heads.fg_bg_sampler.batch_size_per_image = 32
    frozen = {n: p.clone() for n, p in detector.named_parameters() if not p.requires_grad}
    before = {n: p.detach().clone() for n, p in detector.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW([p for p in detector.parameters() if p.requires_grad], lr=3e-3)

    def loss_of(first: int) -> torch.Tensor:
        pixels, targets = zip(*[scene(first + place) for place in range(4)], strict=True)
        return sum(detector(list(pixels), list(targets)).values())

    detector.train()
    with torch.no_grad():
        unseen = loss_of(1000).item()
    for step in range(8):
        loss = loss_of(4 * step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert loss_of(1000).item() < 0.7 * unseen
    now = dict(detector.named_parameters())
    assert all(torch.equal(now[name], value) for name, value in frozen.items())
    assert not [name for name, value in before.items() if torch.equal(now[name], value)]
    with torch.no_grad():
        said = detector.eval()([scene(1000)[0]])[0]
    assert set(said) == {"boxes", "labels", "scores"} and said["labels"].max() <= 2
