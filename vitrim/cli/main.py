"""The command `vitrim`: finds the verb, reads its options, and turns every error into one sentence.

A verb is a module in `verbs/` with a `DESCRIPTION`, `EXAMPLES`, `options(parser)` and `run(chosen)`. It is
imported only when it is used, and imports torch only when it runs: help must not keep anyone waiting.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import textwrap
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from vitrim.checks import did_you_mean
from vitrim.cli.text import examples, paragraphs, terminal_width

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

VERBS = {
    "demo": "see what vitrim does: train, compare and measure on bundled data, in about two minutes",
    "train": "adapt a pretrained Vision Transformer to your images",
    "evaluate": "measure the accuracy of a trained model",
    "predict": "name what is on pictures, be they three or millions",
    "embed": "a table of embeddings of pictures, by a run or a backbone",
    "index": "look at a folder of pictures once, so that words find them",
    "find": "the pictures of a folder that fit a few words",
    "explain": "why it says so: tokens kept and merged, attention beside the plain backbone",
    "view": "the same live on a local page: drop a picture, move a slider, see tokens vanish",
    "plan": "compositions that stay within a budget of operations, milliseconds or megabytes",
    "costs": "parameters, operations and tokens of a composition, without weights or data",
    "prune": "leave out the last blocks of a trained model, as many as its task does not need",
    "export": "a trained model as an ONNX or torch.export file, checked before it gets its name",
    "serve": "answer over HTTP: many trained models on one backbone, batched across requests",
    "bench": "measured speed, side by side with the plain backbone",
    "sweep": "a grid of recipes, data sets and seeds, and its table on disk",
    "table": "the accuracies of many runs, recipes by tasks, as the papers print them",
    "search": "the best setting on the validation images",
    "report": "a page about finished runs, to open in a browser",
    "data": "look a data set over: classes, splits, sizes, broken images, a contact sheet",
    "inspect": "say what a weights file, a saved model, a run or an adapter is",
    "reproduce": "the three papers' tables, recomputed beside what they print",
    "list": "what there is: recipes, protocols, methods (and all about one), models, data, words",
}

WITHOUT_METHODS = ("demo", "data", "table", "reproduce")  # neither compose what the user says, nor load

OPENING = """
vitrim adapts Vision Transformers with few parameters to train and few tokens to run.

usage: vitrim VERB [options]; vitrim VERB --help explains a verb
"""

FIRST_STEPS = """\
  vitrim demo
  vitrim train --data folder:PATH --out runs/mine
  vitrim predict runs/mine PICTURE.jpg
"""

CLOSING = """
PATH holds one folder of pictures per class. Options have the names of the Python arguments. --config
FILE.yaml reads them from a file, --print_config shows them. Words such as "folded" or "as papers count" are
explained by vitrim list words.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, 2 after a refusal, 130 after Ctrl-C, 1 after an error of vitrim
    itself.
    """
    # OpenMP threads that spin while waiting make training ten times slower on a CPU that others use as well.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported, hence here
    try:
        run_command(list(sys.argv[1:] if arguments is None else arguments))
    except SystemExit as end:  # of help and --print_config
        return int(end.code or 0)
    except KeyboardInterrupt as stop:
        complain(str(stop) or "stopped")
        return 130
    except BrokenPipeError:  # the reader of our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("VITRIM_DEBUG"):
            raise
        complain(sentence(error))
        traceback.clear_frames(error.__traceback__)  # reading processes would keep us waiting
        return 2 if isinstance(error, EXPECTED) else 1
    return 0


def run_command(arguments: list[str]) -> None:
    verb = arguments[0] if arguments else "--help"
    if verb in ("-h", "--help", "help"):
        sys.stdout.write(overview())
    elif verb == "--version":
        from vitrim import __version__

        sys.stdout.write(f"vitrim {__version__}\n")
    elif verb not in VERBS:
        raise ValueError(f"no verb {verb!r}; {did_you_mean(verb, VERBS)}")
    else:
        module = import_module(f"vitrim.cli.verbs.{verb}")
        chosen = read_options(verb, arguments[1:])
        load_plugins(chosen)
        module.run(chosen)


def overview() -> str:
    """What the command says of itself."""
    width = terminal_width()
    further = " " * 12
    verbs = [
        textwrap.fill(line, width, initial_indent=f"  {name:<9} ", subsequent_indent=further)
        for name, line in VERBS.items()
    ]
    opening, closing = (paragraphs(text, width) for text in (OPENING, CLOSING))
    return f"{opening}\n\n" + "\n".join(verbs) + f"\n\nfirst steps:\n{FIRST_STEPS}\n{closing}\n"


def load_plugins(chosen: Namespace) -> None:
    """Import the methods of one's own that the command, or the process that started it, names."""
    given = chosen.get("plugin")
    asked = [given] if isinstance(given, str) else list(given or ())
    environment = os.environ.get("VITRIM_PLUGINS")
    if asked or environment:
        from vitrim.methods.plugins import asked_by_environment, load_plugin

        for name in dict.fromkeys([*asked_by_environment(), *asked]):
            load_plugin(name)


def read_options(verb: str, arguments: Sequence[str]) -> Namespace:
    """The options, with those of --config, and the names of those `given` otherwise than usual; a refusal is
    one sentence.
    """
    parser = make_parser(verb)
    known = [
        option[2:] for action in parser._actions for option in action.option_strings if option[:2] == "--"
    ]
    given = with_underscores(arguments)
    try:
        found = parser.parse_args(given)
    except argparse.ArgumentError as error:
        raise ValueError(option_sentence(str(error), known)) from error
    found["cleared"] = given_null(given)
    found["given"] = tuple(
        action.dest
        for action in parser._actions
        if action.default != argparse.SUPPRESS and found.get(action.dest) != action.default
    )
    return found


def given_null(arguments: Sequence[str]) -> tuple[str, ...]:
    """Options set to null on the command line, which the parsed ones do not tell from those not given."""
    pairs = zip(arguments, [*arguments[1:], ""], strict=False)
    return tuple(
        text[2:].removesuffix("=null")
        for text, following in pairs
        if text.startswith("--") and (text.endswith("=null") or ("=" not in text and following == "null"))
    )


def make_parser(verb: str) -> ArgumentParser:
    """The options of one verb."""
    from jsonargparse import ArgumentParser

    from vitrim.cli.bounded_yaml import bound_yaml
    from vitrim.cli.verbs.shared import one_text

    bound_yaml()
    module = import_module(f"vitrim.cli.verbs.{verb}")
    parser = ArgumentParser(
        prog=f"vitrim {verb}",
        description=paragraphs(module.DESCRIPTION, terminal_width()),
        epilog="examples:\n" + textwrap.indent(examples(module.EXAMPLES, terminal_width() - 2), "  "),
        formatter_class=Help,
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", metavar="FILE", help="read options from a YAML file")
    if verb not in WITHOUT_METHODS:
        parser.add_argument(
            "--plugin",
            action="append",
            type=one_text,
            metavar="FILE_OR_MODULE",
            help="Python file or module with methods of your own (vitrim.register); may be repeated",
        )
    module.options(parser)
    return parser


class Help(argparse.RawDescriptionHelpFormatter):
    """Help that fits the terminal, and says what an option takes."""

    def __init__(self, prog: str, **settings: int) -> None:
        super().__init__(prog, **{"max_help_position": 30, "width": terminal_width(), **settings})

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        return "NAME"  # where a verb does not say: never the option's own name once more


def with_underscores(arguments: Sequence[str]) -> list[str]:
    """--batch-size is --batch_size: option names are written as in Python, and accepted with dashes."""
    changed = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        is_option = re.fullmatch(r"--[a-z][a-z0-9_-]*", name)
        changed.append("--" + name[2:].replace("-", "_") + equals + value if is_option else argument)
    return changed


def sentence(error: BaseException) -> str:
    """What to tell the user: the message without the machinery around it."""
    if isinstance(error, OSError) and error.strerror:
        named = error.filename is not None and str(error.filename) not in error.strerror
        return f"{error.strerror}: {error.filename}" if named else error.strerror
    if isinstance(error, EXPECTED):
        return str(error)
    name = type(error).__name__
    return f"vitrim failed with {name}: {error}; VITRIM_DEBUG=1 shows where, and a report of it is welcome"


def option_sentence(message: str, known: Sequence[str]) -> str:
    """The option parser's message in one line."""
    unknown = re.search(r"^(?:unrecognized arguments: --(\w+)|Option '(\w+)' is not accepted)", message)
    if unknown:
        name = unknown[1] or unknown[2]
        return f"no option {name!r}; {did_you_mean(name, known)}"
    key = re.search(r'Parser key "([^"]+)"', message)
    given = re.search(r"(?:Given|Got) value: (.*)", message)
    wanted = re.findall(r"Expected a <class '(\w+)'>", message)
    choices = re.search(r"Expected a typing\.Literal\[([^\]]*)\]", message)
    if key and given and choices:
        names = choices[1].replace("'", "")
        kinds = [KINDS_OF_VALUE.get(kind, kind) for kind in wanted if kind != "NoneType"]
        allowed = " or ".join([*kinds, names]) if kinds else f"one of {names}"
        return f"--{key[1]} takes {allowed}, got {given[1]!r}"
    if key and given and wanted:
        words = " or ".join(KINDS_OF_VALUE.get(kind, kind) for kind in wanted if kind != "NoneType")
        return f"--{key[1]} takes {words or 'names with their values'}, got {given[1]!r}"
    if "Key must be a string, got: True" in message:
        return "YAML reads the bare word on as true; write 'on', in quotes, in the file of --config"
    return " ".join(message.split())


KINDS_OF_VALUE = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list": "a list such as [0, 1]",
    "tuple": "two such as [64, 96]",
}

EXPECTED = (ValueError, OSError, ImportError, FloatingPointError)


def complain(message: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(f"vitrim: {message}\n")
