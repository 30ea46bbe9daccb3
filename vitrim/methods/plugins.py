"""Methods of one's own: `register` puts a class into the tables, `load_plugin` imports what calls `register`.

A saved file and a run name the plug-in of each method that vitrim does not bring, for people to read. It is
never imported because a file says so: only what the user names (`--plugin`, `load_plugin`) or has installed
under the entry-point group "vitrim.methods" runs.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from vitrim.methods.tables import BUILT_IN, METHODS, REDUCERS, TUNERS
from vitrim.network.method import Method

GROUP = "vitrim.methods"  # of entry points: name of the method = module:Class
ENVIRONMENT = "VITRIM_PLUGINS"  # what processes that this one starts load too
Kind = TypeVar("Kind", bound=type[Method])

_plugins: dict[str, str] = {}  # what to give to --plugin, by name of the method
_loading: list[str] = []  # the plug-in that is being imported


def register(kind: Kind) -> Kind:
    """Make a method of one's own known by its name: to text notation, command line, lists, planner and saved
    files. Also a decorator. Returns the class.

    Raises:
        ValueError: if it is not written as a method has to be, or the name is taken.

    >>> register(KeepLargest)
    """
    _check_written(kind)
    name = kind.__name__
    source = _loading[-1] if _loading else _module_of(kind)
    if name in BUILT_IN and METHODS[name] is not kind:
        raise ValueError(f"vitrim has a method {name} of its own; give the one of {source} another name")
    if _plugins.get(name, source) != source:
        raise ValueError(
            f"{name} is registered already, by {_plugins[name]}; give the one of {source} another name"
        )
    _plugins[name] = source
    (REDUCERS if kind.reduces else TUNERS)[name] = METHODS[name] = kind
    return kind


def _check_written(kind: Any) -> None:
    """Refuse a class that could not be written as text, read back and attached."""
    if not isinstance(kind, type) or not issubclass(kind, Method) or kind is Method:
        raise ValueError(f"register takes a class that extends vitrim.network.method.Method, got {kind!r}")
    made = vars(kind).get("__dataclass_params__")
    if made is None or not made.frozen or made.repr:
        raise ValueError(f"write @dataclass(frozen=True, repr=False) over class {kind.__name__}")
    if kind.attach is Method.attach:
        raise ValueError(f"{kind.__name__} has no attach(self, model), which plugs it into a model")
    for field in fields(kind):
        if field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{kind.__name__}: the setting {field.name} has no default; give it one")
    kind()  # its own checks must accept its defaults


def load_plugin(name: str | Path) -> tuple[str, ...]:
    """Import a module, or a Python file, that registers methods; the names of its methods.

    Processes that this one starts (the runs of a sweep) load it too.

    Raises:
        ValueError: if it cannot be imported or registers nothing, in a sentence.

    >>> load_plugin("own_reducer.py")
    ('KeepLargest',)
    """
    text = str(name)
    file = Path(text).expanduser() if text.endswith(".py") or os.sep in text else None
    shown = text if file is None else file.name
    _loading.append(shown)
    try:
        module = import_module(text) if file is None else _module_in(file)
    except FileNotFoundError:
        raise
    except (Exception, SystemExit) as error:  # whatever a stranger's file does when it is imported
        raise ValueError(_cannot(text, error)) from error
    finally:
        _loading.pop()
    found = tuple(kind for kind in _plugins if METHODS[kind].__module__ == module.__name__)
    found = found or tuple(kind for kind, source in _plugins.items() if source == shown)
    if not found:
        unregistered = [kind for kind in vars(module).values() if _own_method(kind, module)]
        call = unregistered[0].__name__ if unregistered else "MyMethod"
        raise ValueError(f"the plug-in {text} registers no method; call vitrim.register({call}) in it")
    _remember(text if file is None else str(file.resolve()))
    return found


def _module_in(file: Path) -> ModuleType:
    if not file.is_file():
        raise FileNotFoundError(f"there is no plug-in file {file}")
    name = f"vitrim_plugin_{file.stem}"
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(file.resolve()):
        return known
    spec = spec_from_file_location(name, file.resolve())
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _cannot(text: str, error: BaseException) -> str:
    missing = isinstance(error, ModuleNotFoundError) and error.name == text.partition(".")[0]
    if missing and Path(f"{text}.py").is_file():
        return f"there is no module {text!r} to plug in; give the file: --plugin {text}.py"
    if missing:
        return f"there is no module {text!r} to plug in; install it, or give its file: --plugin FILE.py"
    return f"the plug-in {text} cannot be imported: {type(error).__name__}: {' '.join(str(error).split())}"


def _own_method(value: Any, module: ModuleType) -> bool:
    return isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__


def _remember(plugin: str) -> None:
    known = list(asked_by_environment())
    if plugin not in known:
        os.environ[ENVIRONMENT] = os.pathsep.join([*known, plugin])


def asked_by_environment() -> tuple[str, ...]:
    """What the process that started this one had plugged in."""
    return tuple(filter(None, os.environ.get(ENVIRONMENT, "").split(os.pathsep)))


def installed() -> dict[str, EntryPoint]:
    """Methods that installed packages offer under the entry-point group, by name."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def load_installed(name: str) -> bool:
    """Load the installed method of this name, if there is one; whether it is known now."""
    entry = installed().get(name)
    if entry is None or name in METHODS:
        return name in METHODS
    _loading.append(entry.module)
    try:
        kind = entry.load()
        if kind.__name__ != name:
            raise ValueError(f"it is a {kind.__name__}, but is offered as {name}")
        register(kind)
    except Exception as error:
        package = entry.dist.name if entry.dist is not None else entry.module
        said = " ".join(str(error).split())
        raise ValueError(
            f"the method {name} of the installed package {package} cannot be loaded: "
            f"{type(error).__name__}: {said}; mend or uninstall {package}"
        ) from error
    finally:
        _loading.pop()
    return True


def load_all_installed() -> dict[str, str]:
    """Load whatever installed packages offer; what cannot be loaded, with the reason, by name."""
    broken = {}
    for name in installed():
        try:
            load_installed(name)
        except ValueError as error:
            broken[name] = str(error)
    return broken


def plugins_of(methods: Iterable[Method]) -> dict[str, str]:
    """For a record: where each method comes from that vitrim does not bring, by name."""
    kinds = [type(method) for method in methods if type(method).__name__ not in BUILT_IN]
    return {kind.__name__: _plugins.get(kind.__name__) or _module_of(kind) for kind in kinds}


def _module_of(kind: type) -> str:
    """The module of a class, or the file that was run."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(file).name if kind.__module__ == "__main__" and file else kind.__module__


def check_known(texts: Iterable[str], plugins: object, where: str) -> None:
    """Refuse what was made with a method that is not known here, naming the plug-in its record names."""
    named = plugins if isinstance(plugins, Mapping) else {}
    for text in texts:
        name = text.partition("(")[0].strip()
        if name in METHODS or load_installed(name):
            continue
        source = named.get(name)
        if isinstance(source, str):
            raise ValueError(
                f"{where} was made with {name} of the plug-in {source[:200]!r}, which is not loaded; if you "
                f"trust it, give --plugin {source[:200]} (in Python: vitrim.load_plugin({source[:200]!r}))"
            )
