"""A sweep file says what to run; what is wrong with it is refused in a sentence before anything runs."""

import re
from pathlib import Path
from typing import Any

import pytest

from vitrim.settings.run_plan import settle_plan
from vitrim.sweep.checking import check
from vitrim.sweep.file import make_sweep, read_sweep
from vitrim.sweep.grid import jobs
from vitrim.sweep.running import sweep

GOOD: dict[str, Any] = {"data": ["digits"], "recipes": ["linear"], "seeds": [0]}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"recipe": ["linear"]}, "no key 'recipe'; did you mean recipes?"),
    "no data": ({"data": None}, "data must be a list of at least one text, got None"),
    "empty data": ({"data": []}, "data must be a list of at least one text, got []"),
    "empty recipes": ({"recipes": []}, "recipes must be a list of at least one recipe"),
    "empty seeds": ({"seeds": []}, "seeds must be a list of whole numbers of at least 0, got []"),
    "seed that is no number": ({"seeds": ["one"]}, "seeds must be a list of whole numbers"),
    "data twice": ({"data": ["digits", "digits"]}, "data has 'digits' twice"),
    "recipe twice": ({"recipes": ["lora", "lora"]}, "recipes has 'lora' twice"),
    "seed twice": ({"seeds": [1, 1]}, "seeds has 1 twice"),
    "two names, one folder": ({"recipes": ["a b", "a-b"]}, "both be written to"),
    "unknown recipe": ({"recipes": ["lorra"]}, "no recipe 'lorra'; did you mean lora"),
    "unknown training setting": ({"training": {"epoch": 1}}, "no key 'epoch'; did you mean epochs?"),
    "impossible setting": ({"training": {"epochs": 0}}, "epochs must be a whole number of at least 1"),
    "seed in training": ({"training": {"seed": 1}}, "write seeds: [1]"),
    "entry without a name": ({"recipes": [{"methods": []}]}, "every entry of recipes needs a name"),
    "entry without methods": ({"recipes": [{"name": "x"}]}, "names neither a recipe nor methods"),
    "unknown key of an entry": ({"recipes": [{"name": "x", "method": []}]}, "did you mean methods?"),
    "unreadable method": ({"recipes": [{"name": "x", "methods": ["LoRA(rank"]}]}, "cannot read method"),
    "method that does not fit": (
        {"recipes": [{"name": "x", "methods": ["EViT(at=(3, 99))"]}]}, "99",
    ),
    "image size": ({"image_size": "big"}, "image_size must be a number of pixels"),
    "missing root": ({"data": ["vtab:eurosat"], "root": "/nowhere/at/all"}, "is not a folder"),
    "no root": ({"data": ["vtab:eurosat"]}, "needs a root"),
    "missing weights": ({"model": "vit_tiny_patch16_224.safetensors"}, "no weights file"),
    "unknown model": ({"model": "vit_tinny_patch16_224"}, "vit_tiny_patch16_224"),
    "unknown protocol": ({"protocol": "vtab/gsp"}, "did you mean vtab/gps"),
    "a list for a folder": ({"out": ["a"]}, "out must be text"),
    "video that cannot be read": ({"video": "Video(pool='max')"}, "pool must be one of 'attentive'"),
    "video of another name": ({"video": "Clip()"}, "cannot read video settings 'Clip()'"),
    "video that is no text": ({"video": 8}, "video must be text, got 8"),
    "video of images": ({"video": "Video(frames=4)"}, "is for clips, but digits has images"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_starts(tmp_path: Path, case: str) -> None:
    changes, said = REFUSED[case]
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(said)) as refusal:
        sweep({**GOOD, **changes}, None if "out" in changes else tmp_path / "out", cpu=True)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["data", "recipes"])
def test_needs(missing: str) -> None:
    with pytest.raises(ValueError, match=f"has no '{missing}'"):
        make_sweep({key: value for key, value in GOOD.items() if key != missing})


def test_needs_a_folder_to_write_to() -> None:
    with pytest.raises(ValueError, match="no folder to write to"):
        sweep(GOOD)


@pytest.mark.parametrize(
    ("text", "said"),
    [("data: [", "cannot be read as YAML"), ("- digits", "must hold names with values"), ("", "got None")],
)
def test_unreadable_files(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_sweep(file)
    with pytest.raises(FileNotFoundError, match="no file"):
        read_sweep(tmp_path / "other.yaml")


def test_the_grid_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "data: [digits, vtab:dtd]\nroot: .\nimage_size: 64\nseeds: [0, 1]\n"
        "recipes: [linear, {name: my own, methods: ['LoRA(rank=2)'], training: {lr: 5e-3}}]\n"
        "training: {epochs: 3, lr: 1e-2}\n"
    )
    made = jobs(read_sweep(file), tmp_path / "out")
    assert [(job.seed, job.data, job.name) for job in made[:3]] == [
        (0, "digits", "linear"), (0, "digits", "my own"), (0, "vtab:dtd", "linear"),
    ]  # fmt: skip
    assert len(made) == len({job.folder for job in made}) == 8
    plain, own = settle_plan(made[0].asked), settle_plan(made[1].asked)
    assert (plain.recipe, plain.methods, plain.training.lr) == ("linear", (), 1e-2)
    assert own.methods == ("LoRA(rank=2, scale=1.0, roles=('query', 'value'))",)
    assert (own.training.lr, own.training.epochs, own.training.seed) == (5e-3, 3, 0)
    assert "--epochs=3" in made[0].command(resume=False)
    assert "--epochs=3" not in made[0].command(resume=True)


def test_long_names_make_short_folders_that_differ(tmp_path: Path) -> None:
    names = ["x" * 300 + end for end in "ab"]
    made = jobs(make_sweep({**GOOD, "recipes": [{"name": name, "methods": []} for name in names]}), tmp_path)
    assert made[0].folder != made[1].folder
    assert all(len(part) < 120 for job in made for part in (*job.folder.parts, *job.log.parts))


def test_own_methods_train_as_the_recipe_they_name(tmp_path: Path) -> None:
    entry = {"name": "half", "recipe": "tr-pts", "methods": ["FisherDelta(layer='block', most=4)"]}
    asked = {**GOOD, "recipes": ["tr-pts", entry], "training": {"epochs": 3, "warmup_epochs": 1}}
    made = jobs(make_sweep(asked), tmp_path)
    check(made)
    assert settle_plan(made[0].asked).training == settle_plan(made[1].asked).training
    assert settle_plan(made[0].asked).protocol == settle_plan(made[1].asked).protocol == "vtab/tr-pts"
    assert len(settle_plan(made[0].asked).methods) == 2
    assert len(settle_plan(made[1].asked).methods) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "data: [digits]\nrecipes: [linear]\nseeds: [" + ", ".join(map(str, range(2000))) + "]",
            "at most 1,000",
        ),
        (
            "data: [digits]\nrecipes:\n- {name: all, methods: [" + ", ".join(["SSF()"] * 2000) + "]}",
            "at most 1,000",
        ),
        (
            "a: &a [x, x]\n"
            + "".join(
                f"{n}: &{n} [*{m}, *{m}]\n"
                for m, n in zip("abcdefghijklmnopqrs", "bcdefghijklmnopqrst", strict=True)
            ),
            "unfold",
        ),
    ],
    ids=["seeds", "methods", "anchors"],
)
def test_what_nobody_can_mean_is_refused_at_once(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "sweep.yaml").write_text(text)
    with pytest.raises(ValueError, match=said) as refused:
        read_sweep(tmp_path / "sweep.yaml")
    assert len(str(refused.value)) < 500
