"""Help, lists and explanations: they fit the terminal, leave nothing out, and can be copied."""

import re
import shlex
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

import vitrim
from vitrim.cli import words
from vitrim.cli.main import VERBS, main, make_parser
from vitrim.cli.text import command, paragraphs, wrapped
from vitrim.cli.verbs.list import LISTS

Captured = pytest.CaptureFixture[str]


def lines_of(arguments: list[str], capsys: Captured) -> list[str]:
    assert main(arguments) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_fits_the_terminal(verb: str, width: int, capsys: Captured, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = lines_of([*filter(None, [verb]), "--help"], capsys)
    assert not [line for line in lines if len(line) > width]
    assert max(map(len, lines)) > width - 25  # and uses it


@pytest.mark.parametrize("what", LISTS)
def test_lists_fit_eighty_columns_where_there_is_no_terminal(
    what: str, capsys: Captured, monkeypatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert not [line for line in lines_of(["list", what], capsys) if len(line) > 80]


def test_descriptions_in_lists_are_whole(capsys: Captured, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = " ".join(" ".join(lines_of(["list", "methods"], capsys)).split())
    for name in vitrim.METHODS:
        description = re.search(rf"{name} \(fe[^)]*\): (.*?) {name}\(", text)
        assert description is not None and description[1].endswith("."), name


@pytest.mark.parametrize("name", vitrim.METHODS)
def test_a_method_is_explained_with_every_setting_and_its_count(name: str, capsys: Captured) -> None:
    text = "\n".join(lines_of(["list", "methods", name], capsys))
    settings = re.sub(r"\n {6,}", " ", text.partition("settings:")[2])
    for field in fields(vitrim.METHODS[name]):
        entry = re.search(rf"^  {field.name}=(.*): \S", settings, re.MULTILINE)
        assert entry is not None, f"{name} does not say what {field.name} means"
    assert "parameters train beside the classifier" in text or "not counted" in text
    assert f"--method {name}" in text or f'--method "{name}(' in text


def test_what_cannot_be_explained_is_refused(capsys: Captured) -> None:
    assert main(["list", "methods", "Evit"]) == 2
    assert "did you mean EViT?" in capsys.readouterr().err
    assert main(["list", "recipes", "lora"]) == 2
    assert "recipes are not explained one by one, got 'lora'" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_options_say_what_they_take(verb: str) -> None:
    said = [
        (action.option_strings[0], action.metavar)
        for action in make_parser(verb)._actions
        if action.option_strings and action.nargs != 0 and action.metavar is not None
    ]
    assert not [option for option, metavar in said if metavar == option[2:].upper()]


@pytest.mark.parametrize("verb", VERBS)
def test_examples_of_help_are_the_same_commands_however_narrow(verb: str) -> None:
    for line in import_module(f"vitrim.cli.verbs.{verb}").EXAMPLES.splitlines():
        if line.startswith("vitrim "):
            narrow = command(line, 50)
            wanted = shlex.split(line.partition("  #")[0])
            assert shlex.split(narrow.replace("\\\n", " ")) == wanted


def test_text_is_wrapped_with_its_indentation() -> None:
    assert wrapped("  one two three four", 14) == "  one two\n      three\n      four"
    assert paragraphs("a b\nc\n\n    x = y\n", 10) == "a b c\n\n    x = y"


def test_the_glossary_is_the_page_and_the_list(capsys: Captured) -> None:
    page = Path(vitrim.__file__).parents[1] / "docs" / "glossary.md"
    assert page.read_text() == words.markdown(), "python -m vitrim.cli.words > docs/glossary.md"
    text = "\n".join(lines_of(["list", "words"], capsys))
    assert all(f"  {word}: " in text for word in words.WORDS)


def test_long_verbs_are_silent_on_stderr_where_it_is_no_terminal(capsys: Captured) -> None:
    assert main(["plan", "--model=test_vit", "--budget=0.7", "--tuner=LoRA", "--reducer=Pool"]) == 0
    assert capsys.readouterr().err == ""
