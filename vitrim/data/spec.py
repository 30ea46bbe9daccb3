"""The spec string: "kind:rest?key=value", and the table that says who opens which kind."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vitrim.data.checking import with_depth_note
from vitrim.data.choices import choose
from vitrim.data.clips.presets import OPENERS
from vitrim.data.clips.video import open_video
from vitrim.data.clips.video_folder import open_video_folder
from vitrim.data.csv_file import open_csv
from vitrim.data.digits import open_digits
from vitrim.data.fewshot import open_fewshot
from vitrim.data.fgvc import open_fgvc
from vitrim.data.folder import open_folder
from vitrim.data.huggingface import open_huggingface
from vitrim.data.kinds import check_kind
from vitrim.data.source import DataSource, Spec
from vitrim.data.torchvision_sets import open_torchvision
from vitrim.data.vtab import open_vtab
from vitrim.network.target_scale import TASKS

KINDS: dict[str, Callable[[Spec], DataSource]] = {
    "digits": open_digits,  # digits                8x8 handwritten digits, bundled with scikit-learn
    "folder": open_folder,  # folder:PATH           one folder per class, with or without train/ val/ test/
    "csv": open_csv,  # csv:FILE             paths and labels in a table
    "vtab": open_vtab,  # vtab:TASK and a root  VTAB-1k as image files and lists
    "fgvc": open_fgvc,  # fgvc:NAME and a root  CUB, NABirds, Flowers, Dogs, Cars
    "fewshot": open_fewshot,  # fewshot:NAME?shots=4&seed=1
    "torchvision": open_torchvision,  # torchvision:CIFAR100 and a root
    "hf": open_huggingface,  # hf:OWNER/NAME or hf:FOLDER
    "video": open_video,  # video:FILE.csv       clips and labels in a list
    "video-folder": open_video_folder,  # video-folder:PATH    one folder of clips per class
    **OPENERS,  # k400:, ssv2:, ucf101:, hmdb51: and a folder, a list or a root
}

FETCHED = ("torchvision", "hf")  # kinds that can download


def open_data(spec: str, root: str | Path | None = None, seed: int = 0, download: bool = False) -> DataSource:
    """Open a data set by its spec.

    `root` is where the files of kinds such as vtab are, and what a relative folder path starts from. `seed`
    decides the split of data that comes without one, unless the spec names a seed itself. Nothing is fetched
    from anywhere unless `download` is set, and then only for kinds that can.
    """
    parsed = parse_spec(spec)
    check_kind(spec)
    opener = choose("kind of data", parsed.kind, KINDS)
    if download and parsed.kind not in FETCHED:
        raise ValueError(
            f"{parsed.kind} has nothing to download, vitrim fetches {' and '.join(FETCHED)} only; "
            "leave download out and give the root of your copy"
        )
    place = None if root is None else Path(root).expanduser()
    return with_depth_note(opener(replace(parsed, root=place, seed=seed, download=download)))


def with_task(spec: str, task: str | None) -> str:
    """The spec with the kind of task written into it; where its kind of data has one only, it must be it."""
    if task is None:
        return spec
    choose("task", task, dict.fromkeys(TASKS))
    parsed = parse_spec(spec)
    if parsed.kind != "csv":
        if task == "classify":
            return spec
        raise ValueError(
            f"{spec} names one class a picture, so its task is classify, not {task}; several labels "
            "a picture or numbers to predict come in a table, csv:FILE"
        )
    if parsed.options.get("task", task) != task:
        raise ValueError(f"{spec} says task={parsed.options['task']} itself, but {task} was asked for")
    return str(parsed.with_options(task=task))


def parse_spec(text: str) -> Spec:
    """Take "kind:rest?key=value&key=value" apart; whether kind and keys exist is not decided here."""
    body, mark, tail = text.strip().rpartition("?")
    if not mark or "=" not in tail:  # a "?" may also be part of a path
        body, tail = text.strip(), ""
    kind, _, rest = body.partition(":")
    if not kind:
        raise ValueError(f"data spec {text!r} names no kind; write kind:rest, for example folder:PATH")
    options: dict[str, str] = {}
    for pair in filter(None, tail.split("&")):
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            raise ValueError(f"data spec {text!r}: {pair!r} is not key=value")
        if key in options:
            raise ValueError(f"data spec {text!r} gives {key!r} twice")
        options[key] = value
    return Spec(kind, rest, options)
