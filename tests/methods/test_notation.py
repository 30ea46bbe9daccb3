"""The one notation for methods: text, Python and saved entries are the same, and mistakes are explained."""

from contextlib import suppress
from dataclasses import fields

import pytest

from vitrim import METHODS, EViT, LoRA, parse_method


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_its_own_text(name: str) -> None:
    method = METHODS[name]()
    assert parse_method(repr(method)) == method
    assert parse_method(name) == method
    assert repr(parse_method(repr(method))) == repr(method)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_what_it_is(name: str) -> None:
    assert len((METHODS[name].__doc__ or "").splitlines()[0]) > 20


def test_the_text_is_the_python_expression() -> None:
    assert repr(EViT(keep=0.7, at=(3, 6, 9))) == "EViT(keep=0.7, at=(3, 6, 9))"
    assert repr(EViT(keep=0.5, at=4, fuse="drop")) == "EViT(keep=0.5, at=(4,), fuse='drop')"
    assert parse_method(" EViT( 0.5, at=[9, 3] ) ") == EViT(keep=0.5, at=(3, 9))
    assert parse_method("LoRA(roles='key')") == LoRA(roles=("key",))


MISTAKES = {
    "Evit()": "did you mean EViT",
    "EViT(kepp=0.5)": "no setting 'kepp'; did you mean keep",
    "EViT(keep=1.5)": "above 0 and at most 1, got 1.5",
    "EViT(keep=0)": "above 0 and at most 1",
    "EViT(keep=True)": "above 0 and at most 1",
    "EViT(fuse=mean)": "put text in quotes",
    "EViT(fuse='median')": "'mean', 'sum', 'argmax', 'drop'",
    "EViT(at=())": "block indices counted from 0",
    "EViT(at=(3, 3))": "twice",
    "EViT(at=-1)": "counted from 0",
    "EViT(keep=0.5, keep=0.6)": "sets keep twice",
    "EViT(0.5, keep=0.6)": "sets keep twice",
    "LoRA(rank=0)": "whole number of at least 1, got 0",
    "LoRA(roles=())": "roles is empty",
    "LoRA(roles=('q',))": "'query', 'key'",
    "LoRA(dropout=1)": "below 1",
    "LoRA(rank=__import__('os'))": "plain value",
    "vitrim.LoRA()": "write it like",
    "LoRA(": "cannot read method",
    "": "cannot read method",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_get_one_sentence(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_method(text)
    assert MISTAKES[text] in str(caught.value)
    assert "\n" not in str(caught.value)


ODD = ("None", "0.5", "-1", "True", "'x'", "()", "{}", "(None,)", "([],)", "('x', 'x')", "(0.5, -1)", "[[1]]")
SEVERAL = ("roles", "rank", "beside", "before", "parts", "reads", "window", "widths", "at", "counts")


@pytest.mark.parametrize("name", METHODS)
def test_any_value_of_any_setting_is_taken_or_refused_in_a_sentence(name: str) -> None:
    for setting in (field.name for field in fields(METHODS[name])):
        for value in ODD:
            with suppress(ValueError):  # and nothing else
                parse_method(f"{name}({setting}={value})")
    for setting in SEVERAL:
        if setting in METHODS[name].__dataclass_fields__:
            with pytest.raises(ValueError, match=rf"^{name}: {setting} must .*, got 0\.5$"):
                parse_method(f"{name}({setting}=0.5)")


DEEP = {
    "a sum": "BitFit(" + "+".join(["1"] * 40_000) + ")",
    "signs": "BitFit(roles=" + "-" * 90_000 + "1)",
    "some signs": "BitFit(roles=" + "-" * 900 + "1)",
    "a chain of names": "a" + ".a" * 40_000 + "()",
    "lists": "BitFit(roles=" + "[" * 90_000 + ")",
    "some lists": "BitFit(roles=" + "[" * 150 + "]" * 150 + "())",
    "calls": "BitFit(roles=" + "f(" * 150 + ")" * 150 + ")",
    "names with values": "BitFit(roles={[]: 1})",
    "digits": "BitFit(roles=" + "9" * 90_000 + ")",
    "zero byte": "BitFit(roles=\0)",
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_text_of_any_depth_is_refused_in_a_short_sentence(text: str) -> None:
    """Such text may stand in a record or a file's metadata, which anybody can write."""
    with pytest.raises(ValueError, match=r"cannot read method|must be a plain value") as refused:
        parse_method(text)
    assert len(str(refused.value)) < 400 and refused.value.__suppress_context__
