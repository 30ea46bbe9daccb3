"""No file imports itself by way of others, neither when it is loaded nor later; what a type checker alone
reads does not count. (Which package may import which is the layers contract of `lint-imports`.)
"""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent / "vitrim"


def test_no_cycle_among_the_files() -> None:
    files = {_module(path): path for path in ROOT.rglob("*.py")}
    del files["vitrim"]  # its names are imported when they are used
    graph = {name: set(_imports(name, path, files)) for name, path in files.items()}
    assert sum(map(len, graph.values())) > 2 * len(files), "imports were not found"
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the files


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(name: str, path: Path, files: dict[str, Path]) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node not in for_types:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found = whole if whole in files else node.module
                if found in files and found != name:
                    yield found
