"""vitrim serve"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from vitrim.checks import check_one_of

if TYPE_CHECKING:
    from pathlib import Path

    from jsonargparse import ArgumentParser, Namespace

    from vitrim.deploy.serving.settings import Serving

DESCRIPTION = """
Answer over HTTP: many trained models on one backbone in memory, each picture by the one that is asked for.
POST a picture to /v1/predict?adapter=NAME, or speak the Open Inference Protocol at /v2; / is a page to drop
pictures on, /metrics is for Prometheus. Only this machine reaches it unless --host says otherwise. With a
token in the environment variable VITRIM_TOKEN, or in a file, everybody has to show it. Ctrl-C or SIGTERM ends
it, after it answered what it had accepted.
"""

EXAMPLES = """
vitrim serve runs/flowers runs/pets
vitrim serve flowers=runs/one/model.safetensors runs/pets --port 9000 --max_batch 64
vitrim serve runs/flowers --adapters_root runs
VITRIM_TOKEN=$(cat token) vitrim serve runs/flowers --host 0.0.0.0
vitrim serve runs/flowers --print-config > serve.yaml
vitrim serve runs/flowers runs/pets --on ray --config serve.yaml
curl --data-binary @rose.jpg "http://127.0.0.1:8000/v1/predict?adapter=pets"
"""

TOKEN = "VITRIM_TOKEN"


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="run folders or model.safetensors files on one backbone; NAME=PATH gives one another name",
    )
    _where(parser.add_argument_group("where, and for whom"))
    _limits(parser.add_argument_group("how much it takes on"))
    _past_one_machine(parser.add_argument_group("past one machine"))


def _where(where: Any) -> None:
    where.add_argument(
        "--host", type=str, default="127.0.0.1", metavar="ADDRESS", help="usually this machine only"
    )
    where.add_argument("--port", type=int, default=8000, metavar="N", help="0: a free one (usually 8000)")
    where.add_argument(
        "--token_file",
        type=str | None,
        metavar="FILE",
        help=f"whose first line is the token, instead of {TOKEN}",
    )
    where.add_argument(
        "--adapters_root",
        type=str | None,
        metavar="FOLDER",
        help="what POST /v1/adapters may load while the server runs; not given: nothing",
    )
    where.add_argument("--device", type=str, default="cpu", help="cpu or cuda (usually cpu)")


def _limits(limits: Any) -> None:
    for name, kind, usual, what in LIMITS:
        limits.add_argument(
            f"--{name}", type=kind, default=usual, metavar="N", help=f"{what} (usually {usual:g})"
        )
    limits.add_argument(
        "--decoders", type=int | None, metavar="N", help="threads that decode; not given: the CPUs, at most 8"
    )


def _past_one_machine(past: Any) -> None:
    past.add_argument(
        "--on",
        type=str,
        default="here",
        metavar="{here,ray}",
        help="this process, or Ray Serve (usually here)",
    )
    past.add_argument(
        "--ray",
        type=dict,
        default=RAY,
        metavar="{...}",
        help="replicas, autoscaling and the cluster's address: write them with --print-config > FILE, change "
        "them, and give --config FILE",
    )


RAY: dict[str, Any] = {
    "address": None,
    "max_adapters": 16,
    "front": {"replicas": 1, "cpus": 1.0},
    "computing": {
        "cpus": 1.0,
        "gpus": 0.0,
        "min_replicas": 1,
        "max_replicas": 1,
        "target_requests": 32.0,
        "upscale_delay": 30.0,
        "downscale_delay": 600.0,
    },
}  # as in `on_ray/settings.py`, which help does not wait for

LIMITS: tuple[tuple[str, type, float, str], ...] = (
    ("max_batch", int, 32, "pictures computed at a time"),
    ("max_wait", float, 5.0, "milliseconds a picture waits for others that are being decoded"),
    ("queue", int, 256, "pictures accepted and not answered; beyond it, 429"),
    ("timeout", float, 30.0, "seconds for a whole request, upload included"),
    ("max_megabytes", float, 20.0, "largest body"),
    ("max_held_megabytes", float, 256.0, "all bodies held at once; beyond it, 429"),
    ("max_megapixels", float, 50.0, "largest picture"),
)


def run(chosen: Namespace) -> None:
    check_one_of("serve", "on", chosen.on, ("here", "ray"))
    if chosen.on == "here" and plain(chosen.ray) != RAY:
        raise ValueError("the settings under ray are for --on ray; give it, or leave them out")
    named = named_runs(chosen.runs)
    serving = _serving(chosen)
    check_server("serving", "serve")
    if chosen.on == "ray":
        _run_on_ray(chosen, named, serving)
        return
    look_at(named)

    from vitrim.deploy.pool import AdapterPool
    from vitrim.deploy.serving.application import make_application
    from vitrim.deploy.serving.server import run_server

    pool = AdapterPool(next(iter(named.values())), device=chosen.device)
    for name, path in named.items():
        pool.add(name, path)
    names = ", ".join(named)
    run_server(make_application(pool, serving), serving, lambda address: _say(f"{names}: {address}"))


def _run_on_ray(chosen: Namespace, named: dict[str, Path], serving: Serving) -> None:
    from vitrim.deploy.serving.on_ray.settings import ray_settings
    from vitrim.methods.plugins import asked_by_environment

    settings = ray_settings(plain(chosen.ray), chosen.device)
    try:
        import ray.serve  # noqa: F401  Ray may be there without what Serve needs
    except ImportError:
        raise ImportError("serving on Ray needs it; pip install 'vitrim[serve,ray]'") from None
    look_at(named)
    from vitrim.deploy.serving.on_ray.plan import make_plan
    from vitrim.deploy.serving.on_ray.running import run_on_ray

    names = ", ".join(named)
    stays = "" if settings.address is None else "; it stays until: serve shutdown"
    run_on_ray(
        make_plan(named, serving, settings, chosen.device, asked_by_environment()),
        lambda address: _say(f"{names} on Ray: {address}{stays}"),
    )


def look_at(named: dict[str, Path]) -> None:
    """A sentence about whatever is no run, before the first is opened."""
    from vitrim.runs.opening import model_file_of

    for path in named.values():
        model_file_of(path)


def plain(given: Any) -> Any:
    """What the option parser read, as dicts of plain values."""
    items = vars(given).items() if hasattr(given, "__dict__") and not isinstance(given, dict) else None
    if items is None and isinstance(given, dict):
        items = given.items()
    return given if items is None else {name: plain(value) for name, value in items}


def check_server(what: str, extra: str) -> None:
    """Refuse to go on without the packages of a server."""
    for package in ("fastapi", "prometheus_client", "python_multipart", "uvicorn"):
        if find_spec(package) is None:
            raise ImportError(f"{what} needs {package}; pip install 'vitrim[{extra}]'")


def named_runs(given: list[str]) -> dict[str, Path]:
    """Names and paths: NAME=PATH, or a path called by its folder."""
    from pathlib import Path

    found: dict[str, Path] = {}
    for text in given:
        before, equals, after = text.partition("=")
        named = bool(equals) and not Path(text).exists()
        path = Path(after if named else text)
        name = before if named else _usual_name(path)
        if not name or "/" in name:
            raise ValueError(f"cannot tell a name and a path from {text!r}; give NAME=PATH")
        if name in found:
            raise ValueError(f"two runs are called {name!r}: {found[name]} and {path}; give one as NAME=PATH")
        found[name] = path
    return found


def _usual_name(path: Path) -> str:
    """A run is called by its folder, also where its file is given."""
    place = path.absolute()
    if place.name == "model.safetensors":
        return place.parent.name
    return place.stem if place.is_file() else place.name


def _serving(chosen: Namespace) -> Serving:
    from pathlib import Path

    from vitrim.deploy.serving.settings import Serving

    return Serving(
        host=chosen.host,
        port=chosen.port,
        token=_token(chosen.token_file),
        adapters_root=None if chosen.adapters_root is None else Path(chosen.adapters_root),
        decoders=chosen.decoders,
        **{name: chosen[name] for name, *_ in LIMITS},
    )


def _token(file: str | None) -> str | None:
    """The token; never from the command line, which everybody on the machine can read."""
    import os
    from pathlib import Path

    given = os.environ.get(TOKEN)
    if file is None:
        return given
    if given is not None:
        raise ValueError(f"the token is in {TOKEN} and in --token_file; give it once")
    try:
        lines = Path(file).read_text(encoding="ascii").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{file} holds no token: it is not a text of ASCII characters") from None
    if not lines or not lines[0].strip():
        raise ValueError(f"the first line of {file} is empty, where the token should be")
    return lines[0].strip()


def _say(line: str) -> None:
    sys.stdout.write(f"serving {line} (Ctrl-C ends it)\n")
    sys.stdout.flush()
