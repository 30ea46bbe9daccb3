"""Which blocks the two rules of `vitrim.prune_layers` keep on a real task, and how long each takes.

    python benchmarks/pruning_rules.py --data vtab:eurosat --root vtab-1k --model CHECKPOINT --image_size 112

Features are those of the backbone as it was pretrained, from train and val, as SLS takes them before anything
is tuned. Printed are the scores of every block, and a row for each rule with the blocks it keeps at its usual
alpha and the seconds of scoring; those of the forward pass, which both need, are told apart. With one thread
they are processor time, because others may share the machine.
"""

import argparse
import os
import time
from datetime import date

import torch

from vitrim import compose
from vitrim.data import open_data
from vitrim.data.transforms import eval_transform
from vitrim.measuring.pruning import ALPHAS, kept_blocks, layer_features, probe_accuracy, silhouette
from vitrim.runs.batches import ordered_batches

RULES = {"silhouette": silhouette, "probe": probe_accuracy}


def main() -> None:
    options = parse_options()
    torch.set_num_threads(options.threads)
    source = open_data(options.data, root=options.root)
    model = compose(options.model, num_classes=len(source.classes), image_size=options.image_size)
    images = source.split("trainval").with_transform(eval_transform(model.preprocess))
    started = now(options)
    features, labels = layer_features(model, ordered_batches(images, 32, 0))
    of_what = f"{len(labels)} images of {options.image_size} pixels"
    print(f"{options.data}, {of_what}, {options.threads} threads, {date.today()}")
    print(f"features of {len(features)} blocks: {now(options) - started:.1f} s\n")
    print("| rule | alpha | blocks kept | seconds | scores, block by block |")
    print("| --- | ---: | ---: | ---: | --- |")
    for rule, score in RULES.items():
        started = now(options)
        scores = [score(each, labels) for each in features]
        seconds = now(options) - started
        kept, told = kept_blocks(scores, ALPHAS[rule]), " ".join(f"{each:.2f}" for each in scores)
        print(f"| {rule} | {ALPHAS[rule]} | {kept} of {len(scores)} | {seconds:.1f} | {told} |", flush=True)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--root")
    parser.add_argument("--model", required=True)
    parser.add_argument("--image_size", type=int)
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", "1")))
    return parser.parse_args()


def now(options: argparse.Namespace) -> float:
    return time.process_time() if options.threads == 1 else time.perf_counter()


if __name__ == "__main__":
    main()
