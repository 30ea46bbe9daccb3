"""Pretrain `vitrim_tiny_patch8_96`, the backbone in vitrim/assets, on images drawn by formula.

    python tools/pretrain_tiny.py render --folder build
    python tools/pretrain_tiny.py train  --folder build
    python tools/pretrain_tiny.py export --folder build
    python tools/pretrain_tiny.py sheet
    python tools/score_tiny.py --folder build

Rendering took under 3 minutes and training 53, with one thread on a machine shared with other work.

Everything is seeded: the batch of step s depends on (seed, s) alone, so an interrupted `train` goes on from
its last checkpoint as if it had never stopped. Training is cheap because most of it sees little: first whole
images at half size (36 patches), then full size with two thirds of the patches left out, then everything, for
a short finish. Matrices inside the blocks are trained with Muon (PyTorch 2.9 or newer), the rest with AdamW.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from draw_formula_images import CLASSES, FAMILY_OF, contact_sheet, draw
from formula_textures import SIZE
from pretrain_schedule import STEPS, share, stage_at
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from vary_images import normalise, vary

NAME = "vitrim_tiny_patch8_96"
ASSETS = Path(__file__).resolve().parent.parent / "vitrim" / "assets"
ARCHITECTURE = {
    "img_size": SIZE, "patch_size": 8, "embed_dim": 96, "depth": 12, "num_heads": 3, "mlp_ratio": 4.0,
    "qkv_bias": True, "class_token": True, "global_pool": "token",
}  # fmt: skip
TRAIN, HELD_OUT = 150, 6  # images of each class
BATCH = 128


def build(classes: int = CLASSES) -> VisionTransformer:
    """The network; it takes any image size here, the exported one takes 96 only."""
    return VisionTransformer(**ARCHITECTURE, num_classes=classes, dynamic_img_size=True, patch_drop_rate=0.5)


def render(folder: Path) -> None:
    """Draw every image once into one uint8 file, [classes, instances, 96, 96, 3]."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = (CLASSES, TRAIN + HELD_OUT, SIZE, SIZE, 3)
    images = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
    for label in range(CLASSES):
        for instance in range(TRAIN + HELD_OUT):
            images[label, instance] = draw(label, instance)
    images.flush()


def batch(images: np.ndarray, step: int, seed: int) -> tuple[Tensor, Tensor]:
    """The images and labels of one step, a function of (seed, step) alone."""
    rng = torch.Generator().manual_seed(seed * 1_000_003 + step)
    labels = torch.randint(0, CLASSES, (BATCH,), generator=rng)
    chosen = torch.randint(0, TRAIN, (BATCH,), generator=rng)
    picked = torch.from_numpy(images[labels.numpy(), chosen.numpy()])
    flips = torch.tensor([FAMILY_OF[int(label)].flips for label in labels])
    return vary(normalise(picked), flips, stage_at(step).size, rng), labels


def optimizers(model: VisionTransformer, rate: float, decay: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for the rest."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and name.startswith("blocks.")]
    rest = [p for name, p in named if not (p.ndim == 2 and name.startswith("blocks."))]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, weight_decay=decay, betas=(0.9, 0.98)),
    ]


def resume(checkpoint: Path, model: VisionTransformer, optims: list[torch.optim.Optimizer]) -> int:
    """Load the last checkpoint, if there is one; gives the step to begin with."""
    if not checkpoint.exists():
        return 0
    saved = torch.load(checkpoint, weights_only=True)
    model.load_state_dict(saved["model"])
    for optim, state in zip(optims, saved["optims"], strict=True):
        optim.load_state_dict(state)
    return saved["step"]


def save(checkpoint: Path, step: int, model: VisionTransformer, optims: list[torch.optim.Optimizer]) -> None:
    """Write a checkpoint; a run stopped while writing keeps the old one."""
    unfinished = checkpoint.with_suffix(".part")
    states = [optim.state_dict() for optim in optims]
    torch.save({"step": step, "model": model.state_dict(), "optims": states}, unfinished)
    unfinished.replace(checkpoint)


def train(folder: Path, rate: float, decay: float, smoothing: float, seed: int, every: int = 100) -> None:
    """Train from the last checkpoint, if there is one, to the end of the last stage."""
    torch.manual_seed(seed)
    model, checkpoint = build(), folder / "checkpoint.pt"
    optims = optimizers(model, rate, decay)
    images = np.load(folder / "images.npy", mmap_mode="r")
    begin = resume(checkpoint, model, optims)
    scores, clock = [], time.time()
    for step in range(begin, STEPS):
        torch.manual_seed(seed * 1_000_003 + step)  # which patches are left out
        shown = batch(images, step, seed)
        scores.append(one_step(model, optims, *shown, rate * share(step), smoothing, step))
        if (step + 1) % every == 0 or step + 1 == STEPS:
            loss, right = np.mean(scores, axis=0)
            speed = len(scores) * BATCH / (time.time() - clock)
            print(f"step {step + 1}/{STEPS} loss {loss:.3f} right {right:.3f} {speed:.0f}/s", flush=True)
            save(checkpoint, step + 1, model, optims)
            scores, clock = [], time.time()


def one_step(
    model: VisionTransformer,
    optims: list[torch.optim.Optimizer],
    images: Tensor,
    labels: Tensor,
    rate: float,
    smoothing: float,
    step: int,
) -> tuple[float, float]:
    """Move the weights once; gives the loss and the share of right answers."""
    model.patch_drop.prob = stage_at(step).leave_out
    logits = model(images)
    loss = nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optim in optims:
        for group in optim.param_groups:
            group["lr"] = rate
        optim.step()
        optim.zero_grad(set_to_none=True)
    return loss.item(), (logits.argmax(dim=-1) == labels).float().mean().item()


def export(folder: Path) -> None:
    """Write the weights without the pretext head, as fp16, with all that is needed to build the network."""
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    weights = {k: v.half().contiguous() for k, v in saved["model"].items() if not k.startswith("head.")}
    metadata = {
        "name": NAME, "architecture": json.dumps(ARCHITECTURE | {"num_classes": 0}),
        "input_size": json.dumps([3, SIZE, SIZE]), "interpolation": "bicubic",
        "mean": json.dumps([0.5] * 3), "std": json.dumps([0.5] * 3),
        "licence": "Apache-2.0", "made_by": "tools/pretrain_tiny.py",
        "images_seen": str(saved["step"] * BATCH), "pretext_classes": str(CLASSES),
    }  # fmt: skip
    ASSETS.mkdir(parents=True, exist_ok=True)
    save_file(weights, ASSETS / f"{NAME}.safetensors", metadata=metadata)


def main() -> None:
    """Run one of the commands listed at the top."""
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("command", choices=("render", "train", "export", "sheet"))
    parser.add_argument("--folder", type=Path, default=Path("build"), help="drawn images and checkpoints")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--decay", type=float, default=0.05)
    parser.add_argument("--smoothing", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    choice = parser.parse_args()
    torch.set_num_threads(choice.threads)
    if choice.command == "render":
        render(choice.folder)
    elif choice.command == "train":
        train(choice.folder, choice.rate, choice.decay, choice.smoothing, choice.seed)
    elif choice.command == "export":
        export(choice.folder)
    else:
        contact_sheet().save(ASSETS / "formula_images.png", optimize=True)


if __name__ == "__main__":
    main()
