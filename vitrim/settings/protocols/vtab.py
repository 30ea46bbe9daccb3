"""How papers train on VTAB-1K (1,000 images a task)."""

from __future__ import annotations

from dataclasses import replace

from vitrim.settings.protocols import tasks_vtab as tasks
from vitrim.settings.protocols.protocol import Protocol
from vitrim.settings.training import Training

JAX = "ViT-B_16.npz (ImageNet-21k, original JAX release)"
AUGREG = "timm vit_base_patch16_224_in21k (AugReg)"
JX = "jx_vit_base_patch16_224_in21k-e5005f0a.pth"
LATE = "sets the rate once per epoch and one epoch late, so lr is never reached (schedule=release does)"
EVERY_TEN = "measures on test every 10 epochs and keeps the best"
AMP = "mixed precision (precision=fp16)"
DROPOUT = "dropout 0.1 inside the tuner (a setting of the method)"

ONE_THOUSAND = Training(train_split="trainval", drop_path=0.1, normalise="imagenet")

SHARED = Protocol(
    training=ONE_THOUSAND,
    follows="released code of Convpass, FacT, binary adapters, RepAdapter and FPET; FPET Table A8",
    checkpoint=JAX,
    differs=(LATE, EVERY_TEN, DROPOUT),
)

GPS = Protocol(
    training=Training(
        optimizer="adam",
        lr=2e-3,
        min_lr=1e-8,
        warmup_lr=1e-7,
        weight_decay=0.0,
        batch_size=32,
        train_split="trainval",
        normalise="half",
    ),
    follows="GPS (arXiv 2312.10136), released scripts",
    checkpoint=AUGREG,
    differs=(AMP,),
    per_task=tasks.column(tasks.SSF_AND_GPS, tasks.gps),
)

DYT = Protocol(
    training=Training(train_split="trainval", normalise="half"),
    follows="DyT (arXiv 2403.11808), released code",
    checkpoint=JX,
    differs=(AMP,),
)

VPT_GRID = {
    "lr": (50.0, 25.0, 10.0, 5.0, 2.5, 1.0, 0.5, 0.25, 0.1, 0.05),
    "weight_decay": (1e-2, 1e-3, 1e-4, 0.0),
}
VPT = Protocol(
    training=Training(
        optimizer="sgd",
        lr=1.0,
        lr_batch=256,
        weight_decay=1e-3,
        min_lr=0.0,
        warmup_lr=0.0,
        warmup_epochs=10,
        lr_updates="epoch",
        train_split="trainval",
        normalise="imagenet",
        interpolation="bilinear",
    ),
    follows="VPT (arXiv 2203.12119), released code; 5 seeds 42, 44, 82, 100, 800",
    checkpoint=JAX,
    reported="val",
    unstated=("min_lr", "warmup_lr", "drop_path"),
    differs=(
        "batch size 64 or 128",
        "lr and weight_decay by the last epoch's accuracy on val200 after "
        "training on train800; ties go to the smallest lr",
    ),
    per_task={
        "dmlab": {"VPT.prompts": 100, "batch_size": 64, "lr": 1.0, "weight_decay": 1e-3},
        "sun397": {"VPT.prompts": 5, "lr": 25.0, "weight_decay": 1e-4},
        "eurosat": {"VPT.prompts": 100, "lr": 1.0, "weight_decay": 1e-3},
    },
    searched=VPT_GRID,
)

FULL = Protocol(
    training=Training(
        lr=1e-3,
        weight_decay=0.01,
        min_lr=0.0,
        warmup_lr=0.0,
        warmup_epochs=5,
        lr_updates="epoch",
        train_split="trainval",
        normalise="imagenet",
        interpolation="bilinear",
    ),
    follows="full and bias tuning in VPT's released code (AdamW with a fixed weight decay of 0.01)",
    checkpoint=JAX,
    reported="val",
    unstated=("min_lr", "warmup_lr", "drop_path", "batch_size"),
    searched={"lr": (1e-3, 1e-4, 5e-4, 5e-3)},
)

SSF = Protocol(
    training=Training(
        lr=5e-3,
        weight_decay=5e-5,
        decayed="matrices",
        min_lr=1e-8,
        warmup_lr=1e-7,
        cooldown_epochs=10,
        train_split="trainval",
        normalise="half",
    ),
    follows="SSF (arXiv 2210.08823), released scripts; 32 images on each of 2 GPUs",
    checkpoint=AUGREG,
    differs=(AMP,),
    per_task=tasks.column(tasks.SSF_AND_GPS, tasks.ssf),
)

VPETL = Protocol(
    training=replace(ONE_THOUSAND, drop_last=False, label_smoothing=0.1, augment="rand", colour_jitter=0.4),
    follows="V-PETL Bench (NeurIPS 2024), released configurations",
    checkpoint=JAX,
    unstated=("colour_jitter",),
    differs=("measures on test after epochs 90 and 100 only",),
    per_task=tasks.vpetl(first=0),
)

SPARSE_TUNING = replace(
    DYT,
    follows="Sparse-Tuning (arXiv 2405.14700) says AdamW, cosine, AMP; the rest as DyT on VTAB-1K",
    checkpoint=None,
    unstated=(
        "lr",
        "min_lr",
        "weight_decay",
        "batch_size",
        "epochs",
        "warmup_epochs",
        "drop_path",
        "normalise",
        "augment",
    ),
)

TR_PTS = replace(
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
    ),
    differs=(),
    per_task={
        task: {name: value for name, value in values.items() if "." not in name}
        for task, values in GPS.per_task.items()
    },
)

SYNQT = Protocol(
    training=replace(
        ONE_THOUSAND, epochs=50, warmup_epochs=10, weight_decay=1e-2, min_lr=1e-6, drop_last=False
    ),
    follows="SynQT, released code (its epoch schedule exists but is overridden by one per step)",
    checkpoint="21k.npz (as ViT-B_16.npz)",
    unstated=("warmup_lr",),
    differs=(EVERY_TEN,),
    per_task=tasks.column(tasks.SYNQT, tasks.synqt),
)

SLS = replace(
    SHARED,
    training=replace(ONE_THOUSAND, lr=1e-5, min_lr=0.0, schedule="constant", warmup_epochs=0),
    follows="SLS, released pruning_train: after pruning, at a constant rate",
    differs=(AMP,),
    unstated=("batch_size", "drop_path"),
)

VTAB: dict[str, Protocol] = {
    "vtab/shared": SHARED,
    "vtab/convpass": replace(
        SHARED,
        follows="Convpass (arXiv 2207.07039), released code",
        per_task=tasks.column(tasks.SCALES, lambda c: tasks.convpass(c[0])),
    ),
    "vtab/convpass-attn": replace(
        SHARED,
        follows="Convpass-attn (arXiv 2207.07039), released code",
        per_task=tasks.column(tasks.SCALES, lambda c: tasks.convpass(c[1])),
    ),
    "vtab/fact-tt": replace(
        SHARED,
        follows="FacT-TT (arXiv 2212.03145), released code",
        per_task=tasks.column(tasks.SCALES, lambda c: tasks.fact(c[2])),
    ),
    "vtab/fact-tk": replace(
        SHARED,
        follows="FacT-TK (arXiv 2212.03145), released code",
        per_task=tasks.column(tasks.SCALES, lambda c: tasks.fact(c[3])),
    ),
    "vtab/repadapter": replace(
        SHARED,
        follows="RepAdapter (arXiv 2302.08106), released code",
        per_task=tasks.column(tasks.SCALES, lambda c: {"RepAdapter.scale": float(c[4])}),
    ),
    "vtab/repadapter-attn": replace(
        SHARED,
        follows="RepAdapter beside attention alone, released code",
        per_task=tasks.column(tasks.SCALES, lambda c: {"RepAdapter.scale": float(c[5])}),
    ),
    "vtab/bi-adaptformer": replace(
        SHARED,
        follows="Bi-AdaptFormer (arXiv 2307.16867) at one bit, released code",
        training=replace(ONE_THOUSAND, normalise="none"),
        per_task=tasks.column(tasks.SCALES, lambda c: {"Adapter.scale": float(c[6])}),
    ),
    "vtab/bi-lora": replace(
        SHARED,
        follows="Bi-LoRA (arXiv 2307.16867) at one bit, released code",
        training=replace(ONE_THOUSAND, normalise="none"),
        per_task=tasks.column(tasks.SCALES, lambda c: {"LoRA.scale": float(c[7])}),
    ),
    "vtab/fpet": replace(
        SHARED,
        follows="FPET, released code and Table A8; seed 0",
        training=replace(ONE_THOUSAND, normalise="none", seed=0),
    ),
    "vtab/vpt": VPT,
    "vtab/full": FULL,
    "vtab/ssf": SSF,
    "vtab/gps": GPS,
    "vtab/tr-pts": TR_PTS,
    "vtab/noah": replace(
        SHARED,
        follows="NOAH (arXiv 2206.04673), retraining of the searched network; seed 0",
        training=replace(ONE_THOUSAND, seed=0),
        differs=(
            "500 epochs of a supernet at lr 5e-4 on train800 and an evolutionary search "
            "on val200 come before",
            EVERY_TEN,
            DROPOUT,
        ),
    ),
    "vtab/noah-supernet": replace(
        SHARED,
        follows="NOAH (arXiv 2206.04673), the supernet before the search, on train800; seed 0",
        training=replace(ONE_THOUSAND, seed=0, epochs=500, lr=5e-4, train_split="train"),
        differs=(DROPOUT,),
        unstated=("warmup_epochs",),
    ),
    "vtab/dyt": DYT,
    "vtab/sparse-tuning": SPARSE_TUNING,
    "vtab/synqt": SYNQT,
    "vtab/pyra": replace(
        SHARED,
        follows="PYRA (arXiv 2403.09192), released script; its own weights at 1e-4, searched 1e-5 to 3e-3",
        training=replace(ONE_THOUSAND, batch_size=32, rates={"reducer": 0.1}),
    ),
    "vtab/sls": SLS,
    "vtab/vpetl": VPETL,
    "vtab/vpetl-adapter": replace(VPETL, per_task=tasks.vpetl(0, tasks.VPETL_ADAPTER)),
    "vtab/vpetl-lora": replace(VPETL, per_task=tasks.vpetl(0, tasks.VPETL_LORA)),
    "vtab/vpetl-bitfit": replace(VPETL, per_task=tasks.vpetl(0, tasks.VPETL_BITFIT)),
    "vtab/vpetl-full": replace(VPETL, per_task=tasks.vpetl(2)),
}
