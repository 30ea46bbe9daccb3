"""How papers train on clips: DyT's pipeline, on which Sparse-Tuning's video tables rest."""

from __future__ import annotations

from dataclasses import replace

from vitrim.settings.protocols.protocol import Protocol
from vitrim.settings.protocols.vtab import AMP, JX
from vitrim.settings.training import Training

KINETICS = Protocol(
    training=Training(
        epochs=12,
        warmup_epochs=2,
        lr=1e-3,
        lr_batch=256,
        batch_size=128,
        weight_decay=0.01,
        min_lr=0.0,
        warmup_lr=0.0,
        augment="none",
        normalise="half",
        test_crop=1.0,
    ),
    follows="DyT (arXiv 2403.11808), released video code; 8 GPUs with 16 clips each",
    checkpoint=JX,
    unstated=("warmup_lr",),
    differs=(AMP, "its changes of training clips come with the data (k400:, or ?augment=k400)"),
)

VIDEO: dict[str, Protocol] = {
    "k400/dyt": KINETICS,
    "ssv2/dyt": replace(
        KINETICS,
        training=replace(KINETICS.training, epochs=50),
        differs=(AMP, "its changes of training clips come with the data (ssv2:, or ?augment=ssv2)"),
    ),
}
