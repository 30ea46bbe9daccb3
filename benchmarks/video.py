"""Forward or backward: a task whose label is in no single frame, on real videos, from compressed files.

    VITRIM_DATA=DATA python benchmarks/video.py --out runs/video             # encode, train, kill one, table
    VITRIM_DATA=DATA python benchmarks/video.py --out runs/video --table     # the table of what has finished

DATA holds davis/frames/SEQUENCE/NNNNN.jpg (DAVIS 2016) and weights/ (an ImageNet ViT-Tiny/16). Every clip is
25 frames of a sequence, 64 pixels high, played forward or backward and encoded to mp4 (H.264), webm (VP9) or
avi (MPEG-4) by turns. A run sees 4 frames of it, 8 apart. Split by time within each sequence, in blocks:
clips that begin at frames 0 to 2 of every 8 are for training, those at 4 and 6 for the test, so no frame
seen in training is seen in the test. Both directions of a test clip have the same frames: what is blind to
order gets exactly half of them. speed: 4 frames at x 1, x 2 or x 4; the test is the last 40 % of a sequence.

Everything is resumed where it stopped: run it again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import av
import numpy
from PIL import Image

HEIGHT, FRAMES, APART = 64, 4, 8
SPAN = (FRAMES - 1) * APART + 1
CODECS = (
    (".mp4", "libx264", {"preset": "veryfast"}),
    (".webm", "libvpx-vp9", {"cpu-used": "8", "deadline": "realtime"}),
    (".avi", "mpeg4", {}),
)
LORA = "LoRA(rank=8, at=(10, 11))"
RUNS = {  # task, temporal embedding, methods
    "direction-none": ("direction", "none", (LORA,)),
    "direction-learned": ("direction", "learned", (LORA,)),
    "direction-learned-evit": ("direction", "learned", (LORA, "EViT(keep=0.7, at=(3, 6, 9))")),
    "direction-learned-bipartite": ("direction", "learned", (LORA, "Bipartite(at=(6,))")),
    "speed-none": ("speed", "none", (LORA,)),
    "speed-learned": ("speed", "learned", (LORA,)),
}
FEW = 80  # training clips of the run that is killed


def frames_of(sequence: Path) -> numpy.ndarray:
    """[frames, HEIGHT, width, 3], the width even."""
    found = []
    for file in sorted(sequence.iterdir()):
        image = Image.open(file).convert("RGB")
        width = round(image.width * HEIGHT / image.height / 2) * 2
        found.append(numpy.asarray(image.resize((width, HEIGHT), Image.Resampling.BICUBIC)))
    return numpy.stack(found)


def encode(file: Path, frames: numpy.ndarray, codec: str, options: dict[str, str]) -> None:
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=24, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.gop_size, stream.bit_rate = "yuv420p", 12, 400_000
        stream.codec_context.thread_count = 1
        for pixels in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(numpy.ascontiguousarray(pixels), "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def direction_clips(frames: numpy.ndarray) -> list[tuple[str, int, numpy.ndarray]]:
    """(split, label, frames) of every start."""
    found = []
    for start in range(len(frames) - SPAN + 1):
        split = {0: "train", 1: "train", 2: "train", 4: "test", 6: "test"}.get(start % APART)
        if split is not None:
            clip = frames[start : start + SPAN]
            found += [(split, 0, clip), (split, 1, clip[::-1])]
    return found


def speed_clips(frames: numpy.ndarray) -> list[tuple[str, int, numpy.ndarray]]:
    """FRAMES + 2 frames of every 2nd start, x 1, x 2 and x 4, as often as each other."""
    cut = 6 * len(frames) // 10
    found = []
    for split, part in (("train", frames[:cut]), ("test", frames[cut:])):
        for start in range(0, len(part) - 4 * (FRAMES - 1), 2):
            for label, step in enumerate((1, 2, 4)):
                found.append((split, label, part[start : start + step * (FRAMES - 1) + 1 : step]))
    return found


def make(davis: Path, out: Path) -> None:
    """The clips of both tasks and their lists."""
    for task, clips_of in (("direction", direction_clips), ("speed", speed_clips)):
        folder = out / "clips" / task
        if (folder / "train.csv").is_file():
            continue
        (folder / "files").mkdir(parents=True, exist_ok=True)
        lines: dict[str, list[str]] = {"train": [], "test": []}
        for sequence in sorted(davis.iterdir()):
            for index, (split, label, clip) in enumerate(clips_of(frames_of(sequence))):
                ending, codec, options = CODECS[index // 2 % 3]  # both directions in the same format
                name = f"files/{sequence.name}-{index:03}{ending}"
                encode(folder / name, clip, codec, options)
                lines[split].append(f"{name},{label}")
        for split in ("test", "train"):
            (folder / f"few-{split}.csv").write_text("\n".join(lines[split][:FEW]) + "\n")
            (folder / f"{split}.csv").write_text("\n".join(lines[split]) + "\n")


def command(
    out: Path, run: str, weights: Path, epochs: int, folder: Path, lists: str = "train.csv"
) -> list[str]:
    task, embed, methods = RUNS[run]
    if (folder / "run.json").is_file():
        return [sys.executable, "-m", "vitrim", "train", "--resume", "--out", str(folder), "--cpu"]
    stride = APART if task == "direction" else 1
    rates = ["--rates", '{"times": 1000}'] if embed == "learned" else []
    return [
        sys.executable, "-m", "vitrim", "train", "--cpu", "--out", str(folder),
        "--model", "vit_tiny_patch16_224", "--weights", str(weights), "--image_size", "64",
        "--data", f"video:{out}/clips/{task}/{lists}?frames={FRAMES}&stride={stride}",
        *[word for method in methods for word in ("--method", method)],
        "--video", f"Video(temporal_embed='{embed}')", *rates,
        "--epochs", str(epochs), "--batch_size", "4", "--lr", "3e-4", "--weight_decay", "0", "--workers", "0",
        "--select", "last",
    ]  # fmt: skip


def finished(folder: Path) -> dict[str, object] | None:
    file = folder / "run.json"
    record = json.loads(file.read_text()) if file.is_file() else {}
    return record if record.get("status") == "finished" else None


def train(words: list[str], log: Path) -> float:
    """CPU seconds of one run."""
    with log.open("a") as stream:
        process = subprocess.Popen(words, stdout=stream, stderr=stream)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} failed: see {log}")
    return used.ru_utime + used.ru_stime


def killed_and_resumed(out: Path, weights: Path) -> bool:
    """Whether a run that kill -9 ended in its second epoch comes to the very weights of one left alone."""
    whole, cut = out / "kill-whole", out / "kill-cut"
    if finished(whole) is None:
        train(command(out, "direction-learned", weights, 3, whole, "few-train.csv"), out / "kill-whole.log")
    if finished(cut) is None and not (cut / "history.jsonl").is_file():
        with (out / "kill-cut.log").open("a") as stream:
            words = command(out, "direction-learned", weights, 3, cut, "few-train.csv")
            process = subprocess.Popen(words, stdout=stream, stderr=stream)
        while not (cut / "history.jsonl").is_file() and process.poll() is None:
            time.sleep(0.05)
        time.sleep(1.0)  # some steps into the second epoch
        process.send_signal(signal.SIGKILL)
        process.wait()
    if finished(cut) is None:
        train(command(out, "direction-learned", weights, 3, cut, "few-train.csv"), out / "kill-cut.log")
    files = [(folder / "model.safetensors").read_bytes() for folder in (whole, cut)]
    results = [json.loads((folder / "run.json").read_text())["results"] for folder in (whole, cut)]
    return files[0] == files[1] and results[0] == results[1]


def table(out: Path) -> str:
    rows = [
        f"{platform.processor() or platform.machine()}, {date.today().isoformat()}",
        "",
        "| task | temporal embedding | reducer | test clips | right | GMACs a view | clips/s in training |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for run, (task, embed, methods) in RUNS.items():
        record = finished(out / run)
        if record is None:
            continue
        results, speeds = record["results"], []
        for line in (out / run / "history.jsonl").read_text().splitlines():
            speeds.append(json.loads(line)["clips_per_second"])
        rows.append(
            f"| {task} | {embed} | {', '.join(methods[1:]) or 'none'} | {results['images']} | "  # type: ignore[index]
            f"{100 * results['top1']:.1f} % | {record['costs']['gmacs']:.3f} | {max(speeds):.1f} |"  # type: ignore[index]
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, of one thread each")
    parser.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--kill", action="store_true", help="only the run that is killed and resumed")
    parser.add_argument("--table", action="store_true", help="print the table of what has finished")
    chosen = parser.parse_args()
    if chosen.table:
        print(table(chosen.out))
        return
    data = Path(os.environ["VITRIM_DATA"])
    weights = data / "weights" / "vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors"
    chosen.out.mkdir(parents=True, exist_ok=True)
    make(data / "davis" / "frames", chosen.out)

    def one(run: str) -> None:
        if finished(chosen.out / run) is None:
            words = command(chosen.out, run, weights, chosen.epochs, chosen.out / run)
            seconds = train(words, chosen.out / f"{run}.log")
            print(f"{run}: {seconds:.0f} CPU seconds", flush=True)

    if not chosen.kill:
        with ThreadPoolExecutor(chosen.jobs) as threads:
            list(threads.map(one, chosen.only))
    print(f"killed and resumed to the same weights and results: {killed_and_resumed(chosen.out, weights)}")
    print(table(chosen.out))


if __name__ == "__main__":
    main()
