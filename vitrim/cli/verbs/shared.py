"""Options that several verbs have, so that they are called and explained the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from vitrim.settings.left_open import CAN_BE_OPEN
from vitrim.settings.training import Training, explanations
from vitrim.settings.training_choices import CHOICES

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def composition_options(parser: ArgumentParser) -> None:
    """What is adapted, and how."""
    group = parser.add_argument_group("the model")
    group.add_argument(
        "--model",
        type=str | None,
        metavar="NAME_OR_FILE",
        help="backbone: a timm model name, or a checkpoint file named after its model; "
        "not given: the bundled one",
    )
    group.add_argument("--pretrained", action="store_true", help="let timm download the weights of --model")
    group.add_argument(
        "--weights",
        type=str | None,
        metavar="FILE",
        help="weights of --model: a safetensors, pth or npz file",
    )
    group.add_argument(
        "--image_size",
        type=int | tuple[int, int] | None,
        metavar="PIXELS",
        help='side of the images, or "[height, width]"; not given: what the backbone was made for',
    )
    group.add_argument(
        "--patch_size",
        type=int | tuple[int, int] | None,
        metavar="PIXELS",
        help='side of a patch, or "[height, width]": smaller patches are more tokens; not given: the '
        "backbone's own",
    )
    group.add_argument(
        "--in_chans",
        type=int | None,
        metavar="N",
        help="channels of the images, such as 1 for grey ones; not given: what the backbone was made for",
    )
    group.add_argument(
        "--video",
        type=str | None,
        metavar="TEXT",
        help="of clips, how their frames become one answer, such as \"Video(pool='attentive', "
        "temporal_embed='learned')\"; the data says how many frames",
    )
    group.add_argument(
        "--recipe",
        type=str | None,
        metavar="NAME",
        help="methods and training settings that belong together; vitrim list recipes shows them",
    )
    group.add_argument(
        "--method",
        action="append",
        type=one_text,
        metavar="TEXT",
        help='a method instead of a recipe, such as "EViT(keep=0.7, at=(3, 6, 9))" or LoRA; may be repeated; '
        "vitrim list methods shows them",
    )


def refuse_mistyped(data: str | None = None, recipe: str | None = None) -> None:
    """Names that nothing has are refused before torch and timm are waited for."""
    from vitrim.data.kinds import check_kind

    if data is not None:
        check_kind(data)
    if recipe is not None:
        from vitrim.settings.recipes import find_recipe

        find_recipe(recipe)


def size_option(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--image_size",
        type=int | tuple[int, int] | None,
        metavar="PIXELS",
        help='images of another size than it was trained on: the side, or "[height, width]"',
    )


def native_option(parser: Any) -> None:
    parser.add_argument(
        "--native",
        type=int | None,
        metavar="PATCHES",
        help="images at their own aspect ratio, each resized to at most so many patches, in packed batches; "
        "for NaFlexViT",
    )


def batch_options(parser: ArgumentParser) -> None:
    """How many images are computed at a time, and where."""
    parser.add_argument(
        "--batch_size", type=int, default=64, metavar="N", help="images at a time (usually 64)"
    )
    parser.add_argument(
        "--device", type=str | None, help="cpu or cuda; not given: the GPU where there is one"
    )


def trust_option(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--trust",
        action="store_true",
        help="open a .pt2 file, which is a program: you made it, or know who did",
    )


def given_list(values: list[str] | str | None) -> list[str]:
    """The values of an option that may be repeated; in a configuration file one may stand without a list."""
    return [values] if isinstance(values, str) else list(values or ())


def given_methods(chosen: Namespace) -> list[str] | None:
    """The methods of the command line or of a configuration file; None where there are none."""
    return None if chosen.method is None else given_list(chosen.method)


def one_text(value: str | list[str]) -> str | list[str]:
    """On the command line each text comes alone; a configuration file gives the whole list."""
    return [str(text) for text in value] if isinstance(value, list) else str(value)


def protocol_options(parser: ArgumentParser) -> None:
    """Which published way to train is followed."""
    group = parser.add_argument_group("the published protocol")
    group.add_argument(
        "--protocol",
        type=str | None,
        metavar="NAME",
        help="train as a paper did, such as vtab/gps: settings, images and their mean and std; vitrim list "
        "protocols shows them; not given: as the recipe's own protocol optimises. settings given beside it "
        "come first, and run.json says so",
    )
    group.add_argument(
        "--per_task",
        type=bool | None,
        metavar="true|false",
        help="take the protocol's values for this very task, where it has some (usually true)",
    )


def data_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("the images")
    group.add_argument(
        "--data",
        type=str | None,
        metavar="SPEC",
        help="digits (bundled), folder:PATH (one folder per class, with or without train, val and test "
        "folders above), vtab:TASK ...; vitrim list data shows all kinds",
    )
    place_options(group)


def place_options(group: Any) -> None:
    """Where the files of the data are, or may come from."""
    group.add_argument(
        "--root", type=str | None, metavar="PATH", help="where the files of kinds such as vtab are"
    )
    group.add_argument(
        "--download",
        action="store_true",
        help="let kinds that can (torchvision, hf) fetch what is not there; nothing is fetched otherwise",
    )


def training_options(parser: ArgumentParser) -> None:
    """One option for each field of `Training`."""
    group = parser.add_argument_group("training settings (not given: as the recipe says)")
    texts, types = explanations(), get_type_hints(Training)
    for field in fields(Training):
        choices = "{" + ",".join(CHOICES[field.name]) + "}" if field.name in CHOICES else None
        metavar = METAVARS.get(field.name, choices)
        kind = types[field.name] | Literal["auto"] if field.name in CAN_BE_OPEN else types[field.name]
        group.add_argument(
            f"--{field.name}",
            type=kind | None,
            default=None,
            metavar=metavar or ("N" if "int" in str(types[field.name]) else "NUMBER"),
            help=texts[field.name].replace("%", "%%") + usual(field.name, field.default),
        )


OPEN_MEANS = {"epochs": "by the number of images", "lr": "by recipe and number of steps"}
METAVARS = {
    "normalise": "WHOSE",  # its choices, which the help explains, are wider than a narrow terminal
    "drop_last": "true|false",
    "gradient_checkpointing": "true|false",
    "cache_frozen": "true|false",
    "deterministic": "true|false",
    "rates": "{PART: FACTOR}",
    "lr": "RATE",
    "min_lr": "RATE",
    "warmup_lr": "RATE",
    "layer_decay": "FACTOR",
    "weight_decay": "FACTOR",
    "momentum": "FACTOR",
    "ema": "FACTOR",
    "clip_grad": "NORM",
    "label_smoothing": "SHARE",
    "test_crop": "SHARE",
    "drop_path": "RATE",
    "distil": "WEIGHT",
    "policy": "TEXT",
    "colour_jitter": "STRENGTH",
    "erasing": "CHANCE",
    "mixup": "ALPHA",
    "cutmix": "ALPHA",
    "train_split": "SPLIT",
    "test_split": "SPLIT",
    "teacher": "RUN",
}


def usual(name: str, default: object) -> str:
    """The default, where it is not explained as "not given" already."""
    if name in CAN_BE_OPEN:
        return f"; auto: {OPEN_MEANS[name]}; not given: auto, or the protocol's where one is given"
    return "" if default is None else f" (usually {str(default).lower()})"


def training_changes(chosen: Namespace) -> dict[str, Any]:
    """The training settings that were given; null is one: it takes back what a protocol sets."""
    values = {field.name: chosen[field.name] for field in fields(Training)}
    cleared = chosen.get("cleared") or ()
    return {name: value for name, value in values.items() if value is not None or name in cleared}


@contextmanager
def steps(words: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr while something takes long, told by calls of (done, of); silent where stderr is no
    terminal.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(words, total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)
