"""How a printed figure is computed: what is composed, and what of it counts."""

from __future__ import annotations

import itertools
import math
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor, nn

VIT_S, VIT_B, VIT_L = (f"vit_{size}_patch16_224" for size in ("small", "base", "large"))
DEIT_S, DEIT_B = (f"deit_{size}_distilled_patch16_224" for size in ("small", "base"))

FRAMES = 8  # of a video, each an image to the Transformer
VIDEO_CLASSES = 400  # of Kinetics-400
LEAST_JOBS = 10  # that make another process worth its start
FGVC_CLASSES = (200, 555, 102, 120, 196)  # CUB, NABirds, Flowers, Dogs, Cars


@dataclass(frozen=True)
class Reading:
    """What a row of a table stands for.

    Attributes:
        methods: texts joined by "; ", or several such compositions with the number of tasks that use each, of
            which the mean is taken.
        backbone: timm's name.
        folded: costs are those after everything that folds was folded.
        head: the mean classifier of a benchmark counts as trained: "vtab", "fgvc" or None.
        without: parameters that do not count: "biases", "dispatchers" or None.
        extra_path: (block, +1 or -1): a dense adapter's third path added to a block, or taken from it.
    """

    methods: str | tuple[tuple[str, int], ...] = ""
    backbone: str = VIT_B
    folded: bool = False
    head: str | None = None
    without: str | None = None
    extra_path: tuple[int, int] | None = None

    def compute(self, quantity: str) -> float:
        """One of QUANTITIES, in the unit the tables use."""
        if isinstance(self.methods, str):
            return QUANTITIES[quantity](self, self.methods)
        total = sum(tasks for _, tasks in self.methods)
        return sum(tasks * QUANTITIES[quantity](self, methods) for methods, tasks in self.methods) / total

    def jobs(self, quantity: str) -> Iterator[Job]:
        """What has to be counted for `compute`."""
        for methods in (self.methods,) if isinstance(self.methods, str) else dict(self.methods):
            whole = quantity in ("params", "percent") or not self.folded
            yield self.backbone, methods if whole else without_folding(methods), quantity == "video"


@dataclass(frozen=True)
class Counted:
    """What a composition on a backbone counts, classifier left out; of clips, the classifier's operations are
    counted, as DyT's figures do."""

    trained: int
    biases: int
    dispatchers: int
    total: int
    width: int
    hidden: int  # of dense adapters
    macs: int  # those of dispatchers left out
    tokens: tuple[int, ...]  # in the MLP of each block


Job = tuple[str, str, bool]  # backbone, methods, whether on clips
Tick = Callable[[int, int], None]  # told how many are done, of how many
_counted: dict[Job, Counted] = {}


def counted(backbone: str, methods: str, folded: bool = False, clips: bool = False) -> Counted:
    """What a composition counts; each is composed once."""
    job = (backbone, without_folding(methods) if folded else methods, clips)
    if job not in _counted:
        _counted[job] = count(job)
    return _counted[job]


def count_ahead(jobs: Iterable[Job], processes: int, tick: Tick = lambda done, of: None) -> None:
    """Count many compositions, by several processes where that is worth their start."""
    missing = [job for job in dict.fromkeys(jobs) if job not in _counted]
    workers = min(processes, len(missing) // LEAST_JOBS)
    tick(0, len(missing))
    if workers < 2:
        _keep(missing, map(count, missing), tick)
        return
    context = multiprocessing.get_context("spawn")  # torch does not survive a fork
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        _keep(missing, pool.map(count, missing, chunksize=4), tick)


def _keep(jobs: Sequence[Job], found: Iterable[Counted], tick: Tick) -> None:
    for done, (job, counts) in enumerate(zip(jobs, found, strict=True), start=1):
        _counted[job] = counts
        tick(done, len(jobs))


@cache
def without_folding(methods: str) -> str:
    """What stays of the methods once everything that folds was folded."""
    from vitrim.methods.notation import parse_method

    return "; ".join(text for text in methods.split("; ") if text and not parse_method(text).folds)


def count(job: Job) -> Counted:
    """Compose on the meta device and count."""
    from vitrim.compose import compose
    from vitrim.measuring.costs import CLASSIFIERS, paper_macs_and_tokens
    from vitrim.methods.notation import parse_method
    from vitrim.methods.tuners import DenseAdapter
    from vitrim.network.copying import copied
    from vitrim.video.settings import Video

    backbone, methods, clips = job
    chosen = [parse_method(text) for text in methods.split("; ") if text]
    as_clips: dict[str, Any] = {"num_classes": VIDEO_CLASSES, "video": Video(frames=FRAMES)} if clips else {}
    model = compose(copied(plain(backbone)), *chosen, **as_clips)
    heads = [getattr(model.vit, name) for name in CLASSIFIERS if hasattr(model.vit, name)]
    classifier = {id(weight) for head in heads for weight in head.parameters()}
    trained = [weight for weight in model.trained().values() if id(weight) not in classifier]
    macs, tokens = paper_macs_and_tokens(model, spend=True)
    dispatches = [stage.dispatch is not None for stage in model.stages]
    patches = sum(count - model.vit.num_prefix_tokens for count in itertools.compress(tokens, dispatches))
    rows = FRAMES if clips else 1
    return Counted(
        trained=size_of(trained),
        biases=size_of(weight for weight in trained if weight.ndim == 1),
        dispatchers=sum(size_of(stage.dispatch.parameters()) for stage in model.stages if stage.dispatch),
        total=size_of(weight for weight in model.parameters() if id(weight) not in classifier),
        width=model.width,
        hidden=next((method.width for method in chosen if isinstance(method, DenseAdapter)), 0),
        macs=macs - rows * patches * model.width,
        tokens=tokens,
    )


@cache
def plain(backbone: str) -> nn.Module:
    """The backbone, without weights."""
    import timm

    from vitrim.backbones.shapes import shapes_only

    with shapes_only():
        return timm.create_model(backbone)


def size_of(weights: Iterable[Tensor]) -> int:
    return sum(weight.numel() for weight in weights)


def trained(reading: Reading, methods: str) -> float:
    """Parameters that train, as the row counts them."""
    found = counted(reading.backbone, methods)
    left_out = {None: 0, "biases": found.biases, "dispatchers": found.dispatchers}[reading.without]
    head = 0.0 if reading.head is None else mean_classes(reading.head) * (found.width + 1)
    path = 0 if reading.extra_path is None else reading.extra_path[1] * (found.width + 1) * found.hidden
    return found.trained - left_out + head + path


def macs(reading: Reading, methods: str) -> float:
    """Multiply-accumulates of one image. DyT's release does not count its dispatchers."""
    found = counted(reading.backbone, methods, reading.folded)
    if reading.extra_path is None:
        return found.macs
    block, sign = reading.extra_path
    return found.macs + sign * found.tokens[block] * found.width * found.hidden


def video_macs(reading: Reading, methods: str) -> float:
    """One view of eight frames, by the video model: DyT's pooling, over the tokens that are left."""
    return counted(reading.backbone, methods, reading.folded, clips=True).macs


def percent(reading: Reading, methods: str) -> float:
    """Of the backbone without its classifier."""
    return 100 * trained(reading, methods) / counted(reading.backbone, "").total


QUANTITIES = {
    "params": lambda reading, methods: trained(reading, methods) / 1e6,
    "gmacs": lambda reading, methods: macs(reading, methods) / 1e9,
    "video": lambda reading, methods: video_macs(reading, methods) / 1e9,
    "percent": percent,
}


def mean_classes(benchmark: str) -> float:
    """Classes of a task, the mean over the tasks of a benchmark."""
    from vitrim.data.vtab_tasks import TASKS

    classes = FGVC_CLASSES if benchmark == "fgvc" else [task.classes for task in TASKS.values()]
    return math.fsum(classes) / len(classes)
