"""What the machine says of itself."""

import pytest
import torch

from vitrim.measuring import machine as telling
from vitrim.measuring.machine import computes_bf16, low_precision_units, machine, units_in_words


class Information:
    """A /proc/cpuinfo."""

    def __init__(self, text):
        self.text = text

    def __call__(self, path):
        return self

    def exists(self):
        return self.text is not None

    def read_text(self, encoding, errors):
        return self.text


@pytest.mark.parametrize(
    ("text", "told", "words", "bf16"),
    [
        ("flags\t: avx2 avx512_bf16 avx512_vnni", {}, "bfloat16: avx512_bf16; 8 bits: avx512_vnni", True),
        ("Features\t: fp asimddp", {}, "bfloat16: none; 8 bits: asimddp", False),
        ("flags\t: avx2", {"amx_bf16": True, "amx_int8": False}, "bfloat16: amx_bf16; 8 bits: none", True),
        (None, {}, "bfloat16: none; 8 bits: none", False),
    ],
)
def test_units_for_fewer_bits_are_named(monkeypatch, text, told, words, bf16) -> None:
    monkeypatch.setattr(telling, "Path", Information(text))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    assert units_in_words() == words and computes_bf16() is bf16


def test_an_older_torch_does_not_say(monkeypatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(telling, "Path", Information("flags: amx_int8"))
    assert low_precision_units() == {"bf16": (), "int8": ("amx_int8",)}


def test_they_are_recorded() -> None:
    assert machine()["units"] == units_in_words()
