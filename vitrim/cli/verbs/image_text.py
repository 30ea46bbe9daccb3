"""What train, evaluate and predict do where it is about pictures and captions."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrim.cli.used_options import refuse_unused
from vitrim.cli.verbs.shared import given_list, given_methods, one_text, training_changes
from vitrim.retrieval.asked import KIND, is_caption_spec, is_retrieval_run
from vitrim.settings.training import Training

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

TRAINED = ("text", "text_method", "loss", "queue", "uniadapter")
BESIDE = ("data", "root", "task", "model", "pretrained", "weights", "image_size", "method", "out", "resume")
MEASURED = ("data", "root", "split", "k_test", "beta", "batch_size", "workers", "json")
PREDICTED = ("text", "by", "top", "batch_size", "device", "skip_broken", "json")
ABOUT = "pictures with captions"


def train_options(parser: ArgumentParser) -> None:
    """The towers of --task retrieval."""
    group = parser.add_argument_group("image-text retrieval (--data retrieval:FILE)")
    group.add_argument(
        "--text",
        type=str | None,
        metavar="TOWER",
        help="words (a small tower trained from nothing; usual), a text encoder of transformers by folder or "
        "name, or clip:FOLDER or blip:FOLDER, which bring both towers",
    )
    group.add_argument(
        "--text_method",
        action="append",
        type=one_text,
        metavar="TEXT",
        help="what trains of a text encoder of transformers: LoRA(rank=8), Adapter(form='sequential') or "
        "Full(); not given: nothing; may be repeated",
    )
    group.add_argument(
        "--loss",
        type=str | None,
        metavar="{infonce,siglip,moco}",
        help="contrast as CLIP, SigLIP or BLIP have it (moco: momentum towers and a queue); not given: moco "
        "for blip, else infonce",
    )
    group.add_argument("--queue", type=int | None, metavar="N", help="pairs that moco remembers (57600)")
    group.add_argument(
        "--uniadapter",
        type=int | None,
        metavar="WIDTH",
        help="UniAdapter on both towers of blip:FOLDER; the paper has 512",
    )


def is_about_captions(chosen: Namespace) -> bool:
    """Whether `vitrim train` is asked for retrieval."""
    resumes = chosen.resume and is_retrieval_run(chosen.out)
    asked = chosen.task == KIND or is_caption_spec(chosen.data) or resumes
    given = [name for name in TRAINED if chosen[name] is not None]
    if given and not asked:
        raise ValueError(f"--{given[0]} is for image-text retrieval: --data retrieval:FILE")
    return bool(asked)


def train_captions(chosen: Namespace) -> None:
    """`vitrim train` on pictures with captions."""
    if chosen.task not in (None, KIND):
        raise ValueError(f"{chosen.data} is for the task retrieval, not {chosen.task}")
    refuse_unused(chosen, (*BESIDE, *TRAINED, *(field.name for field in fields(Training))), ABOUT)
    if not chosen.resume and not is_caption_spec(chosen.data):
        raise ValueError(
            "retrieval trains on captions: give --data retrieval:FILE, and --root for its pictures"
        )
    from vitrim.retrieval.fitting import train_retrieval

    if chosen.resume:
        given = [name for name in ("data", "model", "method", *TRAINED) if chosen[name] is not None]
        if given or training_changes(chosen):
            what = (given or list(training_changes(chosen)))[0]
            raise ValueError(f"a retrieval run goes on as it began: leave out {what}, or start a new run")
        finished = train_retrieval(out=chosen.out, resume=True, cpu=chosen.cpu, quiet=chosen.quiet)
    else:
        finished = train_retrieval(_plan(chosen), chosen.out, cpu=chosen.cpu, quiet=chosen.quiet)
    results = finished.record["results"]
    sys.stdout.write(
        f"{results['split']}: {finished.found.best.in_words()} ({results['images']:,} images, "
        f"{results['texts']:,} captions)\nrun: {finished.folder}\n"
    )


def _plan(chosen: Namespace) -> Any:
    from vitrim.retrieval.plan import RetrievalPlan, with_training

    changes = {name: value for name, value in training_changes(chosen).items() if value != "auto"}
    size = chosen.image_size
    values: dict[str, Any] = {
        "data": chosen.data, "model": chosen.model, "methods": tuple(given_methods(chosen) or ()),
        "text": chosen.text, "text_methods": tuple(given_list(chosen.text_method)), "loss": chosen.loss,
        "queue": chosen.queue, "uniadapter": chosen.uniadapter, "pretrained": bool(chosen.pretrained),
        "weights": chosen.weights, "root": chosen.root,
        "image_size": (size, size) if isinstance(size, int) else size,
    }  # fmt: skip
    given = {name: value for name, value in values.items() if value is not None}
    return RetrievalPlan(**given, training=with_training(changes))


def evaluate_captions(chosen: Namespace) -> None:
    """`vitrim evaluate` of a retrieval run."""
    from vitrim.retrieval.fitting import evaluate_run

    refuse_unused(chosen, MEASURED, ABOUT)
    part, found = evaluate_run(
        chosen.run, chosen.data, chosen.root, chosen.split,
        128 if chosen.k_test is None else chosen.k_test, chosen.beta or 0.0,
        chosen.batch_size, chosen.workers, chosen.cpu,
    )  # fmt: skip
    if chosen.json:
        values = {"split": part, "task": KIND, **found.best.to_json(), "pairs_matched": found.pairs}
        values["by_features_alone"] = found.plain.to_json()
        sys.stdout.write(json.dumps(values, indent=1) + "\n")
        return
    if found.matched is not None:
        sys.stdout.write(f"{part}, by features alone: {found.plain.in_words()}\n")
    best = found.best
    sys.stdout.write(f"{part}: {best.in_words()} ({best.images:,} images, {best.texts:,} captions)\n")


def predict_captions(chosen: Namespace) -> None:
    """`vitrim predict` of a retrieval run: for each picture the captions that fit best, or with --by
    text for each caption the pictures. Lines of what was asked for, what fits, and the cosine."""
    from vitrim.retrieval.gallery import open_searcher

    texts = captions_given(given_list(chosen.text))
    if not texts:
        raise ValueError(f"{chosen.run} compares pictures with captions: give --text, or a file of captions")
    refuse_unused(chosen, PREDICTED, ABOUT)
    searcher = open_searcher(chosen.run, device_of(chosen.device))
    broken: list[str] | None = [] if chosen.skip_broken else None
    gallery = searcher.index(picture_paths(chosen.images), chosen.batch_size, broken)
    if chosen.by == "text":
        found = searcher.find(gallery, texts, chosen.top)
        rows = [(text, name, score) for text, row in zip(texts, found, strict=True) for name, score in row]
    else:
        scores, numbers = searcher.fitting(gallery, texts, chosen.top)
        rows = [
            (name, texts[number], score)
            for name, ones, those in zip(gallery.names, numbers.tolist(), scores.tolist(), strict=True)
            for number, score in zip(ones, those, strict=True)
        ]
    write_rows(rows, ("text", "image") if chosen.by == "text" else ("image", "text"), chosen.json)
    say_broken(broken)


def say_broken(broken: list[str] | None) -> None:
    """Pictures that could not be read, at the end."""
    for line in broken or ():
        sys.stderr.write(f"vitrim: {line}\n")
    if broken:
        raise ValueError(f"{len(broken):,} pictures cannot be read; they are listed above")


def write_rows(rows: list[tuple[str, str, float]], columns: tuple[str, str], file: str | None) -> None:
    """Lines with tabs between, or a JSON list."""
    if file is None:
        sys.stdout.write("".join(f"{first}\t{second}\t{score:.4f}\n" for first, second, score in rows))
        return
    values = [dict(zip((*columns, "cosine"), row, strict=True)) for row in rows]
    text = json.dumps(values, indent=1) + "\n"
    if file == "-":
        sys.stdout.write(text)
    else:
        from vitrim.writing import write_whole

        write_whole(Path(file), text.encode())


def captions_given(given: list[str]) -> list[str]:
    """Captions as they are, and the lines of text files that are named."""
    found: list[str] = []
    for text in given:
        file = Path(text)
        if file.suffix == ".txt" and file.is_file():
            found += [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        else:
            found.append(text)
    return found


def picture_paths(given: list[str]) -> list[str]:
    """All pictures that are named, as paths: files, folders, lists, patterns."""
    from vitrim.runs.image_lists import each_path

    return [str(path) for path in each_path(given)]


def device_of(name: str | None) -> Any:
    from vitrim.measuring.devices import pick_device

    return pick_device(name)
