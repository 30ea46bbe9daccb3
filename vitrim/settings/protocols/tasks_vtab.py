"""Settings that released code chooses per VTAB-1K task. One row per task, one column per method.

Sources: the tables and scripts of PETL-ViT (Convpass, FacT, binary adapters), RepAdapter, SSF, GPS, SynQT and
V-PETL Bench. A setting with a dot belongs to a method, one without to `Training`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

PerTask = dict[str, dict[str, object]]

# Convpass and its attention-only form (scale, then i: starts as identity, x: Xavier), FacT-TT and FacT-TK
# (rank/scale), RepAdapter and its attention-only form, Bi-AdaptFormer and Bi-LoRA at one bit (scale)
SCALES = """
cifar                 0.1i   0.1x   8/1     32/0.1  0.1  0.1  0.1   0.1
caltech101            1i     100x   16/10   32/10   5    10   10    10
dtd                   0.01x  0.1x   8/0.01  16/0.01 1    0.1  0.01  0.01
oxford_flowers102     0.1x   1x     16/1    32/1    0.5  0.5  1     1
oxford_iiit_pet       1x     1x     8/1     16/10   0.1  0.5  0.01  0.1
svhn                  100x   100x   16/100  32/100  10   10   10    10
sun397                0.1i   0.1x   8/1     16/1    0.1  0.1  0.1   0.1
patch_camelyon        10i    10x    8/10    32/10   1    0.5  1     10
eurosat               10i    10x    8/100   32/100  1    5    1     10
resisc45              10i    100x   8/0.1   32/10   5    0.1  10    10
diabetic_retinopathy  1i     0.1x   8/1     16/1    0.1  0.5  1     10
clevr_count           1i     10x    16/1    32/10   0.5  1    1     1
clevr_dist            0.1x   1x     4/10    16/10   0.1  0.1  0.1   0.1
dmlab                 10i    10x    16/10   32/10   5    5    1     10
kitti                 10x    10x    16/10   32/10   5    1    1     10
dsprites_loc          100x   10x    16/100  32/100  5    10   1     1
dsprites_ori          0.1x   1x     16/1    32/1    0.1  5    0.1   0.1
smallnorb_azi         100x   100x   16/100  32/100  10   10   1     10
smallnorb_ele         1x     1x     8/10    16/10   1    1    1     1
"""

# SSF: learning rate, weight decay, drop path; GPS: learning rate, batch size, drop path, connections
SSF_AND_GPS = """
cifar                 5e-3 5e-5 0    0.01   32 0   1
caltech101            1e-3 5e-2 0.1  0.002  16 0   1
dtd                   5e-3 5e-5 0    0.002  16 0   1
oxford_flowers102     5e-3 5e-5 0    0.002  16 0   1
oxford_iiit_pet       5e-3 5e-5 0    0.003  32 0   1
svhn                  1e-2 5e-5 0    0.005  32 0   1
sun397                5e-3 5e-5 0    0.0025 16 0   1
patch_camelyon        5e-3 5e-5 0    0.004  32 0   2
eurosat               3e-3 5e-2 0.2  0.002  16 0   1
resisc45              2e-3 5e-5 0.1  0.0015 16 0.1 1
diabetic_retinopathy  5e-3 5e-5 0.2  0.002  32 0.2 1
clevr_count           2e-3 5e-2 0.1  0.0003 16 0.1 1
clevr_dist            5e-2 5e-2 0.1  0.002  16 0.1 1
dmlab                 5e-3 5e-5 0.1  0.0015 16 0.1 1
kitti                 1e-2 5e-5 0    0.001  16 0   1
dsprites_loc          1e-2 5e-5 0    0.007  32 0   1
dsprites_ori          5e-3 5e-5 0.2  0.0005 16 0.2 1
smallnorb_azi         2e-2 5e-5 0.1  0.003  32 0.1 1
smallnorb_ele         5e-3 5e-2 0.2  0.0003 32 0.2 1
"""

# SynQT on ViT-B/16: queries, attention scale, feature scale, FFN scale
SYNQT = """
cifar 4 1 .1 .1
caltech101 4 .1 1 .1
dtd 1 .1 .1 .1
oxford_flowers102 4 .1 .1 .1
oxford_iiit_pet 1 .1 1 1
svhn 4 .1 1 1
sun397 1 1 .1 .1
patch_camelyon 16 .1 .1 1
eurosat 16 1 .1 .1
resisc45 4 .1 .1 .1
diabetic_retinopathy 16 1 .1 .1
clevr_count 16 .1 .1 .1
clevr_dist 16 .1 .1 .1
dmlab 1 .1 1 .1
kitti 16 1 .1 .1
dsprites_loc 16 .1 .1 .1
dsprites_ori 4 .1 1 .1
smallnorb_azi 16 .1 1 1
smallnorb_ele 16 1 .1 .1
"""

# V-PETL Bench: learning rate and weight decay of tuners, then of full fine-tuning
VPETL = """
cifar                 1e-3   1e-4   5e-4 1e-1
caltech101            0.006  0.35   5e-4 5e-3
dtd                   0.0032 0.04   5e-3 4e-2
oxford_flowers102     0.05   0.11   5e-3 5e-5
oxford_iiit_pet       0.0007 0.8    5e-3 5e-5
svhn                  0.001  0.005  1e-3 6e-3
sun397                0.0017 0.01   2e-3 1e-2
patch_camelyon        0.0072 0.002  7e-3 2e-3
eurosat               0.06   0.001  3e-3 5e-2
resisc45              0.01   0.01   1e-2 1e-2
diabetic_retinopathy  0.004  0.0003 4e-3 3e-4
clevr_count           0.0033 0.01   3e-3 1e-2
clevr_dist            0.0018 0.005  2e-3 5e-3
dmlab                 0.009  0.1    9e-3 1e-1
kitti                 0.0072 0.0001 1e-2 1e-4
dsprites_loc          0.003  0.001  3e-3 1e-3
dsprites_ori          0.01   0.05   1e-2 5e-2
smallnorb_azi         0.0062 0.005  6e-3 5e-3
smallnorb_ele         0.0011 0.0005 1e-3 5e-4
"""
# Adapter, LoRA and BitFit have rows of their own on two tasks
VPETL_ADAPTER = {"cifar": {"lr": 0.01, "weight_decay": 1.0}}
VPETL_LORA = {"cifar": {"lr": 0.005, "weight_decay": 0.005}}
VPETL_BITFIT = {
    "cifar": {"lr": 3e-3, "weight_decay": 1e-4},
    "caltech101": {"lr": 0.006, "weight_decay": 0.25},
}

VPETL_PLAIN = ("cifar", "caltech101", "clevr_dist", "dsprites_loc", "dsprites_ori", "smallnorb_azi",
               "smallnorb_ele")  # fmt: skip
VPETL_UNSMOOTHED = ("clevr_count", "clevr_dist", "dmlab", "dsprites_loc", "dsprites_ori", "smallnorb_azi",
                    "smallnorb_ele")  # fmt: skip


def column(table: str, read: Callable[[list[str]], dict[str, object]]) -> PerTask:
    """One method's settings by task, read from the cells of each row."""
    rows = (line.split() for line in table.strip().splitlines())
    return {cells[0]: read(cells[1:]) for cells in rows}


def convpass(cell: str) -> dict[str, object]:
    return {
        "Convpass.scale": float(cell[:-1]),
        "Convpass.start": {"i": "identity", "x": "xavier"}[cell[-1]],
    }


def fact(cell: str) -> dict[str, object]:
    rank, _, scale = cell.partition("/")
    return {"FacT.rank": int(rank), "FacT.scale": float(scale)}


def ssf(cells: list[str]) -> dict[str, object]:
    return {"lr": float(cells[0]), "weight_decay": float(cells[1]), "drop_path": float(cells[2])}


def gps(cells: list[str]) -> dict[str, object]:
    return {
        "lr": float(cells[3]),
        "batch_size": int(cells[4]),
        "drop_path": float(cells[5]),
        "FisherDelta.connections": int(cells[6]),
    }


def synqt(cells: list[str]) -> dict[str, object]:
    names = ("SynQT.queries", "SynQT.attention_scale", "SynQT.feature_scale", "SynQT.mlp_scale")
    return {names[0]: int(cells[0])} | {name: float(c) for name, c in zip(names[1:], cells[1:], strict=True)}


def vpetl(first: int, exceptions: Mapping[str, Mapping[str, object]] | None = None) -> PerTask:
    """Learning rates and decays with V-PETL's augmentation and smoothing; `first` is 0 for tuners, 2 for
    full.
    """
    found = column(VPETL, lambda cells: {"lr": float(cells[first]), "weight_decay": float(cells[first + 1])})
    for task, values in found.items():
        values.update((exceptions or {}).get(task, {}))
        if task in VPETL_PLAIN:
            values.update(augment="none", colour_jitter=0.0)
        if task in VPETL_UNSMOOTHED:
            values.update(label_smoothing=0.0)
    return found
