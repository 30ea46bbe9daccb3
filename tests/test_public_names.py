"""The names of `import vitrim`: all there, and the function where a module is called the same."""

import subprocess
import sys

from forked_python import python

import vitrim

IMPORTED_FIRST = """
import sys
for name in [name for name in sys.modules if name.partition(".")[0] == "vitrim"]:
    del sys.modules[name]
import vitrim.compose, vitrim.sweep
from vitrim.compose import merge
import vitrim
assert callable(vitrim.compose) and callable(vitrim.sweep), (vitrim.compose, vitrim.sweep)
from vitrim import compose, sweep
assert callable(compose) and callable(sweep)
"""


def test_every_public_name_is_there() -> None:
    missing = [name for name in vitrim.__all__ if getattr(vitrim, name, None) is None]
    assert not missing
    assert set(vitrim.__all__) <= set(dir(vitrim))


def test_a_function_is_not_hidden_by_its_module() -> None:
    done = subprocess.run([python(), "-c", IMPORTED_FIRST], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_waits_for_nothing() -> None:
    heavy = "import sys, vitrim; assert not {'torch', 'timm', 'matplotlib'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", heavy], check=False).returncode == 0
