"""YAML that unfolds into more than it says is refused before anything is built from it."""

import time
from pathlib import Path

import pytest

from vitrim import checks
from vitrim.checks import check_yaml
from vitrim.cli.main import main


def bomb(levels: int, width: int = 9) -> str:
    lines = [f"a0: &a0 [{', '.join(['x'] * width)}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines)


def merges(levels: int) -> str:
    lines = ["a0: &a0 {x: 1, y: 2}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, levels)]
    return "\n".join(lines)


def test_what_an_anchor_stands_for_is_counted_in_full(monkeypatch) -> None:
    text = bomb(levels=3, width=4)
    # the mapping, three keys, lists of 5, 21 and 85 nodes
    unfolded = 1 + 3 + 5 + 21 + 85
    monkeypatch.setattr(checks, "YAML_NODES", unfolded)
    check_yaml(text, "it")
    monkeypatch.setattr(checks, "YAML_NODES", unfolded - 1)
    with pytest.raises(ValueError, match="it unfolds into more than 114 values"):
        check_yaml(text, "it")


@pytest.mark.parametrize(
    "text, sentence",
    [
        (bomb(9), "unfolds into more than 100,000 values"),
        (merges(9), "unfolds into more than 100,000 values"),
        (f"rates: {'[' * 60}{']' * 60}", "unfolds into more than 50 levels"),
        ("rates: &a [*a]", "the value &a holds itself"),
        ("[" + "x, " * 100_001 + "]", "unfolds into more than 100,000 values"),
    ],
)
def test_hostile_settings_are_one_sentence_at_once(tmp_path: Path, capsys, text: str, sentence: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "outer.yaml").write_text(f"config: {tmp_path / 'a.yaml'}")
    for file in ("a.yaml", "outer.yaml"):
        start = time.monotonic()
        assert main(["train", "--config", str(tmp_path / file)]) == 2
        assert time.monotonic() - start < 20
        said = capsys.readouterr().err
        assert sentence in said and said.count("\n") == 1 and len(said) < 300


@pytest.mark.parametrize(
    "text", ["", "a: 1", "a: &x [1, 2]\nb: *x", "fewshot:", "*", "{a: [b, {c: d}]}", "1e-3"]
)
def test_ordinary_yaml_passes(text: str) -> None:
    try:
        check_yaml(text, "it")
    except ValueError:
        pytest.fail("refused")
    except Exception as error:  # what is no YAML is for its reader to say
        assert text == "*" and "alias" in str(error)


def test_settings_of_a_file_still_arrive(tmp_path: Path, capsys) -> None:
    (tmp_path / "a.yaml").write_text("lr: 1e-3\nrates: &r {head: 2}\n")
    main(["train", "--config", str(tmp_path / "a.yaml"), "--print_config"])
    printed = capsys.readouterr().out
    assert "lr: 0.001\n" in printed and "rates:\n  head: 2.0\n" in printed
