"""How papers train on fine-grained classification (FGVC) and on few images per class."""

from __future__ import annotations

from dataclasses import replace

from vitrim.settings.protocols.protocol import Protocol
from vitrim.settings.protocols.vtab import AMP, AUGREG, FULL, JAX, VPETL, VPT
from vitrim.settings.training import Training

# learning rate, weight decay, drop path, EMA of SSF; learning rate, batch, drop path, EMA, connections of GPS
FGVC_TASKS = """
cub      1e-2   5e-2 0   0.9998  0.003  32 0   0.9998 2
nabirds  2e-4   0.05 0.1 0.9998  0.0001 32 0.1 0.9998 20
flowers  1e-2   0.05 0.1 0.999   0.001  32 0.1 0.99   1
cars     2e-2   0.05 0   0.9998  0.0005 32 0   0.9998 15
dogs     2.5e-4 0.05 0   0.9998  0.0001 64 0   0.9998 1
"""
ROWS = {cells[0]: cells[1:] for cells in (line.split() for line in FGVC_TASKS.strip().splitlines())}

MIXED = Training(
    min_lr=1e-8,
    warmup_lr=1e-7,
    augment="crop",
    mixup=0.8,
    cutmix=1.0,
    label_smoothing=0.1,
    ema=0.9998,
    normalise="half",
)

SSF = Protocol(
    training=replace(MIXED, lr=1e-2, weight_decay=0.05, decayed="matrices", cooldown_epochs=10),
    follows="SSF (arXiv 2210.08823), released scripts; mixup, cutmix and smoothing are its defaults",
    checkpoint=AUGREG,
    unstated=("test_crop",),
    differs=(AMP,),
    per_task={
        task: {"lr": float(c[0]), "weight_decay": float(c[1]), "drop_path": float(c[2]), "ema": float(c[3])}
        for task, c in ROWS.items()
    },
)
GPS = Protocol(
    training=replace(
        MIXED, optimizer="adam", lr=1e-3, weight_decay=0.0, batch_size=32, train_split="trainval"
    ),
    follows="GPS (arXiv 2312.10136), released scripts; trains on train and val",
    checkpoint=AUGREG,
    unstated=("test_crop",),
    differs=(AMP,),
    per_task={
        task: {
            "lr": float(c[4]),
            "batch_size": int(c[5]),
            "drop_path": float(c[6]),
            "ema": float(c[7]),
            "FisherDelta.connections": int(c[8]),
        }
        for task, c in ROWS.items()
    },
)

NOAH = Protocol(
    training=Training(
        lr=5e-3, drop_path=0.1, augment="rand", erasing=0.25, mixup=0.8, cutmix=1.0, normalise="imagenet"
    ),
    follows="NOAH (arXiv 2206.04673), few-shot: 1 to 16 images per class, seeds 0 to 2",
    checkpoint=JAX,
    unstated=("erasing", "mixup", "cutmix", "test_crop"),
)

SMALL: dict[str, Protocol] = {
    "fgvc/vpt": replace(
        VPT,
        training=replace(VPT.training, augment="shift", test_crop=0.875, train_split="train"),
        per_task={},
    ),
    "fgvc/full": replace(
        FULL, training=replace(FULL.training, augment="shift", test_crop=0.875, train_split="train")
    ),
    "fgvc/ssf": SSF,
    "fgvc/gps": GPS,
    "fgvc/tr-pts": replace(
        GPS,
        follows="TR-PTS (arXiv 2507.22872) says Adam, cosine, 100 epochs; the rest as GPS",
        checkpoint=None,
        unstated=(
            "lr",
            "min_lr",
            "weight_decay",
            "batch_size",
            "warmup_epochs",
            "drop_path",
            "normalise",
            "augment",
            "mixup",
            "cutmix",
            "label_smoothing",
            "ema",
            "test_crop",
            "train_split",
        ),
        per_task={
            task: {name: value for name, value in values.items() if "." not in name}
            for task, values in GPS.per_task.items()
        },
    ),
    "fgvc/vpetl": replace(
        VPETL,
        unstated=("augment", "colour_jitter", "test_crop"),
        per_task={
            "cub": {"lr": 1e-3, "weight_decay": 5e-2},
            "nabirds": {"lr": 2e-4, "weight_decay": 5e-2},
            "flowers": {"lr": 1e-3, "weight_decay": 5e-2},
            "dogs": {"lr": 2.5e-4, "weight_decay": 5e-2},
            "cars": {"lr": 2e-3, "weight_decay": 5e-2},
        },
    ),
    "fewshot/noah": NOAH,
    "fewshot/repadapter": replace(
        NOAH,
        training=replace(NOAH.training, lr=1e-3, erasing=0.0),
        follows="RepAdapter (arXiv 2302.08106), few-shot: RandAugment, mixup and cutmix, scale 1",
        unstated=("lr", "mixup", "cutmix", "test_crop"),
    ),
    "fewshot/fpet": replace(
        NOAH,
        training=replace(NOAH.training, lr=1e-3),
        follows="FPET, section B.1 with the settings of its Table A8; images as NOAH's",
        unstated=("augment", "erasing", "mixup", "cutmix", "normalise", "test_crop"),
    ),
}
