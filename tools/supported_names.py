"""Which of timm's isotropic Vision Transformers vitrim runs, name by name.

    python tools/supported_names.py names.jsonl            # resumable: names that are in the file are skipped
    python tools/supported_names.py names.jsonl --table    # the table of docs/backbones.md, from the file

Every name is built on the meta device, where vitrim refuses what it does not run, and is run there whole, at
its own size: shapes, no values. Then one block of each kind is kept (two at least), at full width, and all
weights get random values: timm's own forward pass on images of 6x8 patches (CaiT: of its own size) is
compared with vitrim's, with nothing attached and with reducers that remove nothing; with reducers that do, it
must be finite and repeatable. Names of one structure share that run.
"""

import argparse
import hashlib
import json
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import model_entrypoint
from torch import Tensor, nn

from vitrim import EViT, ToMe, compose
from vitrim.backbones.geometry import (
    has_class_token,
    image_size,
    input_channels,
    pixels_per_patch,
    set_image_size,
    takes_patches,
)
from vitrim.backbones.support import check_support

# timm's modules of models whose blocks all have the same width and the same number of tokens
ISOTROPIC = (
    *("beit", "cait", "convit", "deepseek_vit", "deit", "eva", "gemma4_vit", "naflexvit", "qwen3_vit", "tnt"),
    *("vision_transformer", "vision_transformer_hybrid", "vision_transformer_relpos"),
    *("vision_transformer_sam", "vitamin", "xcit"),
)
TOLERANCE = 3e-6


def names() -> dict[str, str]:
    """timm's isotropic model names and the module each comes from."""
    found = {name: model_entrypoint(name).__module__.rpartition(".")[2] for name in timm.list_models()}
    return {name: module for name, module in found.items() if module in ISOTROPIC}


def shortened(vit: Any) -> nn.Module:
    """The model with few of its blocks, on the CPU, all weights random."""
    kept = kinds(vit)
    vit.blocks = nn.Sequential(*kept) if isinstance(vit.blocks, nn.Sequential) else nn.ModuleList(kept)
    vit.to_empty(device="cpu")
    if hasattr(vit, "set_input_size") or takes_patches(vit):  # CaiT cannot be resized once it exists
        rows, columns = pixels_per_patch(vit)
        set_image_size(vit, (6 * rows, 8 * columns))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in vit.modules():
            if hasattr(module, "init_non_persistent_buffers"):
                module.init_non_persistent_buffers()
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.reset_running_stats()
        for name, weight in vit.named_parameters():
            weight.normal_(generator=generator)
            if weight.ndim > 1:
                weight.div_(max(1, weight[0].numel()) ** 0.5)
            else:
                weight.mul_(0.1).add_(float(name.endswith("weight") or "gamma" in name))
    return vit.eval()


def kinds(vit: Any) -> list[nn.Module]:
    """One block of each kind, at least two blocks."""
    found = {repr(block): block for block in reversed(vit.blocks)}
    return [vit.blocks[0], vit.blocks[-1]] if len(found) == 1 else [*reversed(found.values())]


def difference(ours: Tensor, reference: Tensor) -> float:
    """The largest, as a share of the largest reference value."""
    return ((ours - reference).abs().max() / reference.abs().max()).item()


def run(vit: Any) -> float:
    """How far from timm it is with nothing removed; what reduces must be finite and repeatable."""
    size = 2, input_channels(vit), *image_size(vit)
    images = torch.randn(size, generator=torch.Generator().manual_seed(1))
    score = "class" if has_class_token(vit) else "received"
    reference, found = vit(images), []
    for methods in ((), (EViT(keep=1.0, at=(0,), score=score),), (ToMe(r=0),)):
        model = compose(vit, *methods).eval()
        found += [model(images)] if methods else [model(images), model.run(images)[0]]
    if not reference.std() > 0:
        raise RuntimeError("timm's own output is not finite, or constant: nothing can be compared")
    for method in (EViT(keep=0.7, at=(0,), score=score), ToMe(r=[8])):
        model = compose(vit, method).eval()
        logits = model(images)
        if not torch.isfinite(logits).all() or not torch.equal(logits, model(images)):
            raise RuntimeError(f"{method}: not finite, or not repeatable")
    return max(difference(logits, reference) for logits in found)


def examine(name: str, done: dict[str, float]) -> dict[str, Any]:
    """Works, refused with a sentence, or broken with the error, for one name."""
    with torch.device("meta"):
        vit = timm.create_model(name)
    try:
        check_support(vit)
    except ValueError as refusal:
        return {"refused": str(refusal).partition("; supported are")[0]}
    try:
        with torch.device("meta"), torch.no_grad():
            compose(vit).run(torch.empty(1, input_channels(vit), *image_size(vit)))
    except Exception as error:
        return {"broken": f"{type(error).__name__}: {error}"}
    shapes = [(k, tuple(v.shape)) for k, v in vit.state_dict().items() if not k.startswith("blocks.")]
    rest = [(k, v) for k, v in vars(vit).items() if isinstance(v, bool | str | int) and k != "training"]
    about = repr((kinds(vit), shapes, rest, image_size(vit), getattr(vit, "rope", None)))
    structure = hashlib.sha256(about.encode()).hexdigest()[:16]
    if structure not in done:
        try:
            with torch.inference_mode():
                done[structure] = run(shortened(vit))
        except Exception as error:
            return {"broken": f"{type(error).__name__}: {error}"}
    worst = done[structure]
    outcome = {"works": worst} if worst <= TOLERANCE else {"broken": f"differs from timm by {worst:.1e}"}
    return {**outcome, "structure": structure}


def table(lines: list[dict[str, Any]]) -> str:
    """Counts by module of timm, and every sentence of refusal with the names it is for, in Markdown."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    refused: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        kind = next(kind for kind in ("works", "refused", "broken") if kind in line)
        counts[line["module"]][kind] += 1
        if kind != "works":
            refused[line[kind]].append(line["name"])
    total = sum(counts.values(), Counter())
    rows = [
        f"| `{module}` | {c['works']} | {c['refused']} | {c['broken']} |"
        for module, c in sorted(counts.items())
    ]
    rows.append(f"| all {len(lines)} | {total['works']} | {total['refused']} | {total['broken']} |")
    head = ["| module of timm | work | refused | broken |", "| --- | ---: | ---: | ---: |"]
    why = [f"| {sentence} | {', '.join(f'`{n}`' for n in names)} |" for sentence, names in refused.items()]
    return "\n".join([*head, *rows, "", "| refused with | names |", "| --- | --- |", *why])


def main() -> None:
    """Go on where the file ends, or print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--modules", nargs="+", default=ISOTROPIC, help="timm's modules to look at")
    given = parser.parse_args()
    lines = [json.loads(line) for line in given.file.read_text().splitlines()] if given.file.exists() else []
    if given.table:
        print(table(lines))
        return
    warnings.simplefilter("ignore")
    known = {line["name"] for line in lines}
    done = {line["structure"]: line["works"] for line in lines if "works" in line}
    for name, module in names().items():
        if name in known or module not in given.modules:
            continue
        line = {"name": name, "module": module, **examine(name, done)}
        with given.file.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
