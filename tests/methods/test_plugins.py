"""Methods of one's own: registered, recorded, found from another process, and never imported unasked."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from forked_python import python
from small_runs import colour_folder

import vitrim
from vitrim.cli.main import main
from vitrim.methods import plugins
from vitrim.network.method import Method

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_reducer.py"
NOTHING_ELSE = 'import sys; sys.stdout.write("imported")\n'


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """After each test, or when called, nothing is plugged in."""
    tables = (vitrim.METHODS, vitrim.REDUCERS, vitrim.TUNERS, plugins._plugins)
    before = [dict(table) for table in tables]

    def forgotten() -> None:
        monkeypatch.setenv(plugins.ENVIRONMENT, "")
        for table, values in zip(tables, before, strict=True):
            table.clear()
            table.update(values)
        for name in [name for name in sys.modules if name.startswith("vitrim_plugin_")]:
            del sys.modules[name]

    forgotten()
    yield forgotten
    forgotten()


def command(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with `path` among the installed packages."""
    here = os.pathsep.join(filter(None, [str(path or ""), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        [python(), "-m", "vitrim", *arguments], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": here, plugins.ENVIRONMENT: ""},
    )  # fmt: skip


def test_a_run_is_used_from_another_process_with_its_plugin_and_refused_without(
    tmp_path: Path, forget: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = colour_folder(tmp_path / "colours"), str(tmp_path / "run")
    small = ["--model=test_vit", "--image-size=48", "--data", data, "--epochs=1", "--batch_size=8", "--cpu"]
    method = ["--method", "KeepLargest(keep=0.5, at=(2,))", "--method=LoRA(rank=2)"]
    assert main(["train", "--plugin", str(EXAMPLE), *small, *method, "--out", run, "--quiet"]) == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["plugins"] == {
        "KeepLargest": "own_reducer.py"
    }
    picture = str(tmp_path / "colours" / "red" / "0.png")
    done = command("predict", run, picture, "--plugin", str(EXAMPLE), "--device=cpu")
    assert done.returncode == 0 and done.stdout.startswith(picture)
    refused = command("predict", run, picture)
    assert refused.returncode == 2
    said = [refused.stderr]
    forget()
    for verb in (["evaluate", run], ["train", "--resume", "--out", run]):
        capsys.readouterr()
        assert main(verb) == 2
        said.append(capsys.readouterr().err)
    for sentence in said:
        assert "KeepLargest of the plug-in 'own_reducer.py', which is not loaded" in sentence
        assert "give --plugin own_reducer.py" in sentence and sentence.count("\n") == 1


def test_a_file_cannot_have_a_module_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vitrim.load_plugin(EXAMPLE)
    file = tmp_path / "model.safetensors"
    vitrim.save(vitrim.compose("vitrim_tiny_patch8_96", "KeepLargest", num_classes=2), file)
    (tmp_path / "own_reducer.py").write_text(NOTHING_ELSE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    del vitrim.METHODS["KeepLargest"], sys.modules["vitrim_plugin_own_reducer"]
    with pytest.raises(ValueError, match=r"give --plugin own_reducer\.py"):
        vitrim.load(file)
    assert "own_reducer" not in sys.modules and "vitrim_plugin_own_reducer" not in sys.modules
    vitrim.METHODS["KeepLargest"] = vitrim.REDUCERS["KeepLargest"]
    assert repr(vitrim.load(file).methods[0]) == "KeepLargest(keep=0.5, at=(6,))"


def test_processes_of_a_sweep_load_what_it_loaded(tmp_path: Path) -> None:
    sweep = tmp_path / "grid.yaml"
    data = colour_folder(tmp_path / "colours", per_class=8)
    sweep.write_text(
        f"data: [{data}]\nmodel: test_vit\nimage_size: 48\nout: {tmp_path / 'out'}\n"
        'recipes: [{name: own, methods: ["KeepLargest(at=(2,))"]}]\n'
        "training: {epochs: 1, batch_size: 4}\nseeds: [0]\n"
    )
    done = command("sweep", str(sweep), "--plugin", str(EXAMPLE), "--cpu")
    assert done.returncode == 0, done.stderr
    runs = list((tmp_path / "out").rglob("run.json"))
    assert [json.loads(run.read_text())["plugins"] for run in runs] == [{"KeepLargest": "own_reducer.py"}]


def test_an_installed_package_offers_methods_by_entry_point(tmp_path: Path) -> None:
    (tmp_path / "offered.py").write_text(EXAMPLE.read_text().replace("@vitrim.register\n", ""))
    about = tmp_path / "offered-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: offered\nVersion: 1.0\n")
    entries = "[vitrim.methods]\nKeepLargest = offered:KeepLargest\nBroken = offered:Nothing\n"
    (about / "entry_points.txt").write_text(entries)
    costs = ["costs", "--model=test_vit", "--method"]
    assert command(*costs, "KeepLargest(at=(2,))", path=tmp_path).returncode == 0
    broken = command(*costs, "Broken", path=tmp_path)
    assert broken.returncode == 2
    assert "method Broken of the installed package offered cannot be loaded" in broken.stderr
    listed = command("list", "methods", path=tmp_path).stdout
    assert "KeepLargest(keep=0.5, at=(6,))" in listed and "Broken: " in listed


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("import nowhere_at_all\n", "cannot be imported: ModuleNotFoundError"),
        ("1 / 0\n", "cannot be imported: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)\n", "cannot be imported: SystemExit: 3"),
        ("x = (\n", "cannot be imported: SyntaxError"),
        ("", "registers no method; call vitrim.register"),
        (EXAMPLE.read_text().replace("@vitrim.register\n", ""), r"call vitrim.register\(KeepLargest\) in it"),
    ],
)
def test_a_plugin_that_does_not_work_gets_a_sentence(content: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(content)
    with pytest.raises(ValueError, match=sentence) as refused:
        vitrim.load_plugin(tmp_path / "mine.py")
    assert "\n" not in str(refused.value)
    assert not os.environ[plugins.ENVIRONMENT]


def test_a_module_that_is_a_file_here_is_pointed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine_here.py").write_text(EXAMPLE.read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(tmp_path))])
    assert main(["costs", "--plugin", "mine_here", "--method", "KeepLargest"]) == 2
    assert "give the file: --plugin mine_here.py" in capsys.readouterr().err
    assert main(["costs", "--plugin", "nowhere/mine.py", "--method", "KeepLargest"]) == 2
    assert "there is no plug-in file nowhere/mine.py" in capsys.readouterr().err
    assert main(["costs", "--plugin", "mine_here.py", "--method", "KeepLargest"]) == 0


@dataclass(frozen=True, repr=False)
class Whole(Method):
    """Changes nothing at all."""

    def attach(self, model: object) -> None: ...


def test_what_is_written_otherwise_is_refused_before_it_is_used() -> None:
    assert vitrim.register(Whole) is Whole and vitrim.register(Whole) is Whole
    assert vitrim.TUNERS["Whole"] is Whole and "Whole" not in vitrim.REDUCERS
    assert vitrim.parse_method("Whole()") == Whole()
    bare = type("Bare", (Method,), {})
    no_attach = dataclass(frozen=True, repr=False)(type("NoAttach", (Method,), {}))
    twin = dataclass(frozen=True, repr=False)(type("Whole", (Whole,), {"__module__": "elsewhere"}))
    taken = dataclass(frozen=True, repr=False)(type("LoRA", (Whole,), {}))
    needs = dataclass(frozen=True, repr=False)(type("Needs", (Whole,), {"__annotations__": {"width": int}}))
    for kind, words in {
        bare: r"write @dataclass\(frozen=True, repr=False\) over class Bare",
        no_attach: "NoAttach has no attach",
        twin: "Whole is registered already, by .*test_plugins",
        taken: "vitrim has a method LoRA of its own",
        needs: "setting width has no default",
        Method: "takes a class that extends",
        Whole(): "takes a class that extends",
    }.items():
        with pytest.raises(ValueError, match=words):
            vitrim.register(kind)
