"""Score the bundled backbone against the same network with random weights; the model card quotes this output.

    python tools/score_tiny.py --folder build --photographs eurosat

- held-out: share of right pretext answers on images of the training classes that were never trained on.
- linear probe: logistic regression on frozen class tokens, its strength chosen by 5-fold validation on the
  800 training images. The weights scored are those of the exported file (fp16), computed in fp32.
- nearest: the label of the training image whose class token has the highest cosine.
- 8x8 pixels: the same two scores on the image averaged over 8 x 8 cells, without any network.

`--photographs` names a folder with the two lists of a VTAB-1k task: `train800.txt` and
`test.txt`, with lines "path label".
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from formula_textures import SIZE
from PIL import Image
from pretrain_tiny import ARCHITECTURE, ASSETS, CLASSES, NAME, TRAIN, build
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from vary_images import normalise

KINDS = ("pretrained", "random", "pixels")
Features = Callable[[np.ndarray], np.ndarray]
Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # training images, labels, test images, labels


def enlarged(image: Image.Image) -> np.ndarray:
    """An image as the network takes it. [96, 96, 3] uint8"""
    return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def digits(train: int = 800) -> Split:
    """scikit-learn's 8x8 handwritten digits, a fixed shuffle cut after 800."""
    grey, labels = load_digits(return_X_y=True)
    grey = np.round(grey * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
    order = np.random.default_rng(0).permutation(len(grey))
    images = np.stack([enlarged(Image.fromarray(grey[i])) for i in order])
    return images[:train], labels[order[:train]], images[train:], labels[order[train:]]


def photographs(folder: Path) -> Split:
    """The two lists of a VTAB-1k task."""
    halves = []
    for listing in ("train800.txt", "test.txt"):
        rows = [line.split() for line in (folder / listing).read_text().splitlines()]
        halves += [np.stack([enlarged(Image.open(folder / path)) for path, _ in rows])]
        halves += [np.array([int(label) for _, label in rows])]
    return tuple(halves)


@torch.no_grad()
def class_tokens(model: VisionTransformer, images: np.ndarray) -> np.ndarray:
    """The final class token of every image. [n, 96]"""
    model.eval()
    chunks = torch.from_numpy(images).split(128)
    return torch.cat([model.forward_features(normalise(chunk))[:, 0] for chunk in chunks]).numpy()


def pixels(images: np.ndarray) -> np.ndarray:
    """The colours of an image averaged over 8 x 8 cells, a reminder of what needs no network. [n, 192]"""
    cell = SIZE // 8
    return images.reshape(len(images), 8, cell, 8, cell, 3).mean(axis=(2, 4)).reshape(len(images), -1)


def probes(features: Features, split: Split) -> dict[str, float]:
    """Linear probe and nearest neighbour on frozen features, in percent right."""
    seen, labels, unseen, answers = split
    a, b = features(seen), features(unseen)
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    strengths = {"logisticregression__C": [1e-3, 1e-2, 1e-1, 1.0, 10.0]}
    score = GridSearchCV(linear, strengths, cv=5).fit(a, labels).score(b, answers)
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    nearest = labels[(b @ a.T).argmax(axis=1)]
    return {"linear probe": 100 * score, "nearest": 100 * float((nearest == answers).mean())}


@torch.no_grad()
def held_out(folder: Path) -> float:
    """Percent right on the images of each class that training never saw."""
    model = build()
    model.load_state_dict(torch.load(folder / "checkpoint.pt", weights_only=True)["model"])
    model.eval()
    images, right = np.load(folder / "images.npy", mmap_mode="r"), 0
    for label in range(CLASSES):
        unseen = torch.from_numpy(np.array(images[label, TRAIN:]))
        guess: Tensor = model(normalise(unseen)).argmax(dim=-1)
        right += int((guess == label).sum())
    return 100 * right / (CLASSES * images[:, TRAIN:].shape[1])


def bundled() -> VisionTransformer:
    """The exported network."""
    model = VisionTransformer(**ARCHITECTURE, num_classes=0)
    model.load_state_dict({k: v.float() for k, v in load_file(ASSETS / f"{NAME}.safetensors").items()})
    return model


def random_weights(seed: int) -> VisionTransformer:
    """The same network as it is before any training."""
    torch.manual_seed(seed)
    return VisionTransformer(**ARCHITECTURE, num_classes=0)


def features_of(kinds: Sequence[str]) -> dict[str, Features]:
    """The features to compare, by the name they are printed under."""
    found: dict[str, Features] = {}
    if "pretrained" in kinds:
        found["pretrained"] = partial(class_tokens, bundled())
    if "random" in kinds:
        found |= {f"random {seed}": partial(class_tokens, random_weights(seed)) for seed in range(3)}
    if "pixels" in kinds:
        found["8x8 pixels"] = pixels
    return found


def main() -> None:
    """Print one line per score."""
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("--folder", type=Path, help="drawn images and checkpoint, for the held-out score")
    parser.add_argument("--photographs", type=Path, help="a VTAB-1k task to score as well")
    parser.add_argument("--of", nargs="+", default=KINDS, choices=KINDS, help="which features to score")
    parser.add_argument("--threads", type=int, default=1)
    choice = parser.parse_args()
    torch.set_num_threads(choice.threads)
    if choice.folder:
        print(f"held-out formula images: {held_out(choice.folder):.1f} % of {CLASSES} classes right")
    splits = {"digits": digits()}
    if choice.photographs:
        splits[choice.photographs.name] = photographs(choice.photographs)
    scored = features_of(choice.of)
    for data, split in splits.items():
        print(f"{data}: {len(split[0])} training images, {len(split[2])} test images")
        for who, feature in scored.items():
            for how, percent in probes(feature, split).items():
                print(f"  {who:12} {how:13} {percent:5.1f} %")


if __name__ == "__main__":
    main()
