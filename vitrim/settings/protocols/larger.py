"""How papers train on whole data sets (CIFAR-100, SVHN, Food-101) and on ImageNet."""

from __future__ import annotations

from dataclasses import replace

from vitrim.settings.protocols.protocol import Protocol
from vitrim.settings.protocols.vtab import AMP, AUGREG, JX
from vitrim.settings.training import Training

FORCED = "the release's rate is 0.1 times the batch / 256 with a warm-up of 20 epochs until epoch 4"

CROPS = Training(
    batch_size=1024, augment="crop", test_crop=0.875, warmup_epochs=20, min_lr=0.0, warmup_lr=0.0
)

DYT = Protocol(
    training=replace(CROPS, lr=1e-3, lr_batch=256, weight_decay=0.01, normalise="half"),
    follows="DyT (arXiv 2403.11808), released code; 8 GPUs with 128 images each",
    checkpoint=JX,
    unstated=("warmup_lr",),
    differs=(AMP,),
)

# DeiT's recipe, which EViT and DynamicViT keep
DEIT = Training(
    lr=5e-4,
    lr_batch=512,
    batch_size=1024,
    weight_decay=0.05,
    decayed="matrices",
    epochs=300,
    warmup_epochs=5,
    min_lr=1e-5,
    drop_path=0.1,
    augment="rand",
    erasing=0.25,
    mixup=0.8,
    cutmix=1.0,
    label_smoothing=0.1,
    normalise="imagenet",
    test_crop=0.875,
)
EVIT = Protocol(
    training=replace(DEIT, ema=0.99996),
    follows="EViT (arXiv 2202.07800), released code",
    checkpoint="none: from scratch",
    unstated=("batch_size", "warmup_lr", "test_crop"),
    differs=("repeated augmentation",),
)

LARGER: dict[str, Protocol] = {
    "full/adaptformer": Protocol(
        training=replace(
            CROPS,
            optimizer="sgd",
            lr=0.1,
            lr_batch=256,
            weight_decay=0.0,
            head="batchnorm",
            normalise="imagenet",
        ),
        follows="AdaptFormer (arXiv 2205.13535), released code; 8 GPUs with 128 images each",
        checkpoint="MAE ViT-B/16 (mae_ names: ImageNet statistics; jx_ names: 0.5)",
        unstated=("warmup_lr", "min_lr"),
    ),
    "full/dyt": DYT,
    "full/sparse-tuning": replace(
        DYT,
        follows="Sparse-Tuning (arXiv 2405.14700) says AdamW, cosine, AMP; the rest as DyT",
        checkpoint=None,
        unstated=(
            "lr",
            "min_lr",
            "weight_decay",
            "batch_size",
            "epochs",
            "warmup_epochs",
            "augment",
            "normalise",
            "test_crop",
        ),
    ),
    "full/sparse-tuning-release": Protocol(
        training=replace(
            CROPS,
            lr=5e-4,
            schedule="constant",
            weight_decay=0.0,
            head="batchnorm",
            mixup=0.8,
            cutmix=1.0,
            label_smoothing=0.1,
            normalise="half",
            warmup_epochs=0,
        ),
        follows="Sparse-Tuning, released code: lr forced to 5e-4 from epoch 4, flips on SVHN too",
        checkpoint=JX,
        unstated=("batch_size", "normalise", "test_crop"),
        differs=(FORCED, "its running mean of the weights is never updated, so there is none here"),
    ),
    "full/ssf": Protocol(
        training=Training(
            lr=1e-3,
            weight_decay=0.05,
            decayed="matrices",
            batch_size=128,
            min_lr=1e-8,
            warmup_lr=1e-7,
            cooldown_epochs=10,
            ema=0.99992,
            augment="crop",
            normalise="half",
        ),
        follows="SSF (arXiv 2210.08823) on CIFAR-100, released script; 32 images on each of 4 GPUs",
        checkpoint=AUGREG,
        unstated=("augment", "test_crop", "mixup", "cutmix", "label_smoothing"),
        differs=(AMP,),
    ),
    "imagenet/ssf": Protocol(
        training=Training(
            epochs=30,
            warmup_epochs=5,
            lr=1e-3,
            weight_decay=0.05,
            decayed="matrices",
            batch_size=256,
            drop_path=0.1,
            augment="crop",
            normalise="half",
            min_lr=1e-8,
            warmup_lr=1e-7,
        ),
        follows="SSF (arXiv 2210.08823) on ImageNet-1K, released script; 32 images on each of 8 GPUs",
        checkpoint=AUGREG,
        unstated=("lr", "weight_decay", "augment", "test_crop", "mixup", "cutmix", "label_smoothing"),
        differs=(AMP,),
    ),
    "imagenet/evit": EVIT,
    "imagenet/evit-finetune": replace(
        EVIT,
        training=replace(EVIT.training, epochs=30, lr=2e-5, weight_decay=1e-6, min_lr=1e-5),
        follows="EViT (arXiv 2202.07800), 30 epochs on a trained DeiT, without shrink warm-up",
        checkpoint="DeiT, trained on ImageNet-1K",
    ),
    "imagenet/dynamicvit": Protocol(
        training=replace(
            DEIT,
            epochs=30,
            lr=1e-3,
            lr_batch=None,
            min_lr=1e-6,
            ema=0.9999,
            rates={"backbone": 0.01},
            frozen_epochs=5,
        ),
        follows="DynamicViT (arXiv 2106.02034), released code; 8 GPUs with 128 images each",
        checkpoint="DeiT, trained on ImageNet-1K",
        unstated=("warmup_lr", "drop_path", "test_crop"),
    ),
    "imagenet/ltmp": Protocol(
        training=Training(
            optimizer="sgd",
            momentum=0.0,
            lr=5e-6,
            rates={"merge_above": 1000.0},
            weight_decay=0.0,
            epochs=1,
            batch_size=128,
            min_lr=0.0,
            warmup_epochs=0,
            augment="crop",
            colour_jitter=0.4,
            label_smoothing=0.1,
            normalise="checkpoint",
        ),
        follows="LTMP (WACV 2024), released code: thresholds of pruning at 5e-6, of merging at 5e-3",
        checkpoint="DeiT or ViT, trained on ImageNet-1K",
        reported="last",
        unstated=("min_lr", "normalise", "test_crop"),
    ),
}
