"""Image-text retrieval: what a merge in the vision tower saves from captions to recall, and what keeping an
image's keys and values saves when the best are matched again.

    python benchmarks/retrieval.py captions --data retrieval:captions.json --root coco-few --weights FILE
    python benchmarks/retrieval.py matching --width 256 --layers 4

`captions` trains the plain tower and the merged one under equal settings, each in a process of its own,
so that the peak of memory is its own. From a few pictures the recalls say that the path works, not how
good it is.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def train_one(asked: dict[str, Any], methods: tuple[str, ...], place: str, told: Any) -> None:
    """One run, in this process; puts its figures into the queue `told`."""
    from vitrim.retrieval.fitting import train_retrieval
    from vitrim.retrieval.plan import RetrievalPlan, with_training

    torch.set_num_threads(asked["threads"])
    training = with_training({"epochs": asked["epochs"], "batch_size": asked["batch"], "workers": 0})
    plan = RetrievalPlan(
        data=asked["data"], root=asked["root"], model=asked["model"], weights=asked["weights"],
        methods=methods,
        image_size=(asked["size"], asked["size"]), training=training,
    )  # fmt: skip
    began = time.process_time()
    run = train_retrieval(plan, place, cpu=True, quiet=True)
    told.put({
        "methods": ", ".join(methods) or "none",
        "gmacs": run.record["costs"]["gmacs"],
        "trained": run.record["costs"]["trained_parameters"],
        "cpu_seconds_per_epoch": (time.process_time() - began) / asked["epochs"],
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "recall": run.found.best.in_words(),
        "images": run.found.best.images,
    })  # fmt: skip


def captions(asked: argparse.Namespace) -> list[dict[str, Any]]:
    context = multiprocessing.get_context("spawn")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number, methods in enumerate(((asked.tuner,), (asked.tuner, asked.merge))):
            told = context.Queue()
            place = str(Path(folder) / f"run-{number}")
            process = context.Process(target=train_one, args=(vars(asked), methods, place, told))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"the run with {methods} failed")
            rows.append(told.get())
    return rows


def matching(asked: argparse.Namespace) -> list[dict[str, Any]]:
    from transformers import BlipTextConfig, BlipTextModel

    from vitrim.papers.retrieval_costs import keys_values_macs, pair_macs
    from vitrim.retrieval.crossing import CrossModalText

    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    config = BlipTextConfig(
        hidden_size=asked.width, encoder_hidden_size=asked.width, intermediate_size=4 * asked.width,
        num_hidden_layers=asked.layers, num_attention_heads=asked.width // 64, vocab_size=100,
        bos_token_id=1, sep_token_id=2, eos_token_id=2,
    )  # fmt: skip
    text = CrossModalText(BlipTextModel(config, add_pooling_layer=False), enc_token=None).eval()
    ids = torch.randint(3, 100, (asked.texts, 35))
    mask = torch.ones_like(ids)
    rows = []
    for tokens in (577, 289):
        image = torch.randn(1, tokens, asked.width)
        whole = image.repeat(asked.texts, 1, 1)

        def kept(image: torch.Tensor = image) -> torch.Tensor:
            seen = tuple(
                (keys.expand(asked.texts, -1, -1, -1), values.expand(asked.texts, -1, -1, -1))
                for keys, values in text.keys_values(image)
            )
            return text.fuse(ids, mask, seen, None)

        def anew(whole: torch.Tensor = whole) -> torch.Tensor:
            return text.fuse(ids, mask, text.keys_values(whole), None)

        ratios, gap = compared(kept, anew, asked.rounds)
        pair = pair_macs(asked.width, asked.layers, 35, tokens)
        once = keys_values_macs(asked.width, asked.layers, tokens)
        rows.append({
            "image_tokens": tokens,
            "operations": (pair - once + once / asked.texts) / pair,
            "time": statistics.median(ratios),
            "quartiles": statistics.quantiles(ratios, n=4)[::2],
            "largest_difference": gap,
        })  # fmt: skip
    return rows


@torch.inference_mode()
def compared(
    first: Callable[[], torch.Tensor], second: Callable[[], torch.Tensor], rounds: int
) -> tuple[list[float], float]:
    """Ratios of CPU time within each round, and how far apart the results are."""
    gap = (first() - second()).abs().max().item()
    ratios = []
    for _ in range(rounds):
        times = []
        for call in (first, second):
            began = time.process_time()
            call()
            times.append(time.process_time() - began)
        ratios.append(times[0] / times[1])
    return ratios, gap


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parts = parser.add_subparsers(dest="part", required=True)
    first = parts.add_parser("captions")
    first.add_argument("--data", required=True)
    first.add_argument("--root")
    first.add_argument("--model", default="vit_tiny_patch16_224")
    first.add_argument("--weights")
    first.add_argument("--size", type=int, default=224)
    first.add_argument("--epochs", type=int, default=3)
    first.add_argument("--batch", type=int, default=20)
    first.add_argument("--tuner", default="LoRA(rank=8)")
    first.add_argument("--merge", default="Bipartite(at=(6,))")
    second = parts.add_parser("matching")
    second.add_argument("--width", type=int, default=768)
    second.add_argument("--layers", type=int, default=12)
    second.add_argument("--texts", type=int, default=32)
    second.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    rows = captions(asked) if asked.part == "captions" else matching(asked)
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
