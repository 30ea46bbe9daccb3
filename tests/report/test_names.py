"""What runs are called side by side."""

from typing import Any

from vitrim.report.summary import names_of


def record(recipe: str | None, spec: str, *methods: str) -> dict[str, Any]:
    return {"settings": {"recipe": recipe, "methods": list(methods)}, "data": {"spec": spec}}


def test_runs_on_the_same_data_are_called_by_what_was_done() -> None:
    runs = [record("lora", "digits"), record(None, "digits", "SSF()", "EViT(keep=0.5)")]
    assert names_of(runs) == ["lora", "SSF, EViT"]


def test_runs_on_several_data_sets_are_told_apart_by_them() -> None:
    runs = [record("gps", "vtab:dtd"), record("gps", "vtab:svhn")]
    assert names_of(runs) == ["gps on vtab:dtd", "gps on vtab:svhn"]
