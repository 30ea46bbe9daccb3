"""vitrim serve: names of runs, the token, and what is refused before anything is loaded."""

from pathlib import Path

import pytest

from vitrim.cli.main import main
from vitrim.cli.verbs.serve import LIMITS, TOKEN, _token, named_runs
from vitrim.deploy.serving.settings import Serving


def test_runs_are_called_by_their_folder_or_as_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "pets").mkdir(parents=True)
    (tmp_path / "odd=name").mkdir()
    (tmp_path / "birds.safetensors").touch()
    given = ["runs/pets", "runs/cars/model.safetensors", "birds.safetensors", "x=runs/pets", "odd=name"]
    assert {name: str(path) for name, path in named_runs(given).items()} == {
        "pets": "runs/pets",
        "cars": "runs/cars/model.safetensors",
        "birds": "birds.safetensors",
        "x": "runs/pets",
        "odd=name": "odd=name",
    }
    assert list(named_runs(["."])) == [tmp_path.name]


@pytest.mark.parametrize(
    ("given", "phrase"),
    [(["a/pets", "b/pets"], "two runs are called 'pets'"), (["=x"], "NAME=PATH"), (["a/b=c"], "NAME=PATH")],
)
def test_names_that_cannot_be_told_are_refused(given: list[str], phrase: str) -> None:
    with pytest.raises(ValueError, match=phrase):
        named_runs(given)


def test_the_token_comes_from_the_environment_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    assert _token(None) is None
    file = tmp_path / "token"
    file.write_text("secret\n")
    assert _token(str(file)) == "secret"
    file.write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match="holds no token: it is not a text of ASCII characters"):
        _token(str(file))
    file.write_text("\n")
    with pytest.raises(ValueError, match="first line"):
        _token(str(file))
    monkeypatch.setenv(TOKEN, "other")
    assert _token(None) == "other"
    with pytest.raises(ValueError, match="give it once"):
        _token(str(file))
    monkeypatch.setenv(TOKEN, "")
    with pytest.raises(ValueError, match="at least one visible"):  # an empty one must not mean none
        Serving(token=_token(None))


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (["--port", "70000"], "port must be"),
        (["--queue", "0"], "queue must be"),
        (["--adapters_root", "nowhere"], "is no folder"),
        (["--token_file", "nowhere"], "nowhere"),
        (["--que", "5"], "no option 'que'"),
        ([], "nothing-here"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(
    options: list[str], phrase: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    assert main(["serve", "nothing-here", *options]) == 2
    said = capsys.readouterr().err
    assert phrase in said and said.count("\n") == 1


def test_the_options_have_the_usual_values_of_the_settings() -> None:
    assert {name: usual for name, _, usual, _ in LIMITS} == {
        name: getattr(Serving(), name) for name, *_ in LIMITS
    }


def test_a_folder_that_is_no_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tmp_path), "--port", "0"]) == 2
    assert "is not a run folder: it has no run.json" in capsys.readouterr().err
