"""The container recipe: what it copies is there, its commands are ours, it names no address.

No container is built here. What can be run outside of one is: the recipe's own check of DEVICE, its health
check against a real server, and its entry point.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "deploy" / "Dockerfile"
INSTRUCTIONS = {
    "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN", "STOPSIGNAL", "USER",
    "WORKDIR",
}  # fmt: skip


def instructions() -> list[tuple[str, str]]:
    """(instruction, rest) in order, lines that go on joined, comments left out."""
    lines = [line for line in RECIPE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    found = [line.split(maxsplit=1) for line in whole.splitlines() if line.strip()]
    assert {name for name, _ in found} <= INSTRUCTIONS
    return [(name, rest.strip()) for name, rest in found]


def all_of(kind: str) -> list[str]:
    return [rest for name, rest in instructions() if name == kind]


def test_it_starts_from_a_plain_name_and_holds_no_address() -> None:
    assert all_of("FROM") == ["${BASE}"]
    arguments = dict(rest.split("=", 1) for rest in all_of("ARG"))
    assert re.fullmatch(r"[a-z]+:[\w.-]+", arguments["BASE"]), "an official image: no registry, no owner"
    text = RECIPE.read_text(encoding="utf-8")
    for address in re.findall(r"\w+://[^\s'\")]+", text):
        assert address.startswith("http://127.0.0.1:8000/"), address
    given = re.findall(r"--(?:index-url|extra-index-url|find-links|trusted-host)\s+(\S+)", text)
    assert set(given) == {'"${TORCH_INDEX}"'} and arguments["TORCH_INDEX"] == '""'


def test_what_it_copies_is_in_the_repository_and_is_all_that_building_needs() -> None:
    copied = [source for rest in all_of("COPY") for source in rest.split()[:-1]]
    assert copied and all((ROOT / source).exists() for source in copied)
    let_in = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert let_in[0] == "*" and {line[1:] for line in let_in if line.startswith("!")} == set(copied)
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for needed in re.findall(r'^(?:readme = |license-files = \[|path = )"([^"]+)"', settings, re.M):
        assert any(needed == source or needed.startswith(f"{source}/") for source in copied), needed


def test_it_installs_extras_that_there_are() -> None:
    arguments = dict(rest.split("=", 1) for rest in all_of("ARG"))
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    known = re.findall(r"^(\w+) = \[", settings.split("[project.optional-dependencies]")[1], re.M)
    assert arguments["EXTRAS"] in known and "ray" in known
    assert any('".[${EXTRAS}]"' in rest for rest in all_of("RUN"))


@pytest.mark.parametrize(("device", "status"), [("cpu", 0), ("cuda", 0), ("tpu", 1), ("", 1)])
def test_it_refuses_devices_that_there_are_not(device: str, status: int) -> None:
    (check,) = [rest for rest in all_of("RUN") if "DEVICE" in rest]
    done = subprocess.run(
        ["sh", "-c", check], env={**os.environ, "DEVICE": device}, capture_output=True, text=True, check=False
    )
    assert done.returncode == status and (status == 0) == (done.stderr == "")


def test_it_runs_as_a_user_of_its_own_and_ends_gently() -> None:
    made = [rest for rest in all_of("RUN") if rest.startswith("useradd")]
    (user,) = all_of("USER")
    assert made and f"--uid {user}" in made[0] and int(user) > 0
    order = [name for name, _ in instructions()]
    assert order.index("USER") < order.index("ENTRYPOINT") and all_of("STOPSIGNAL") == ["SIGTERM"]


def test_its_entry_point_is_our_server_with_what_is_given(tmp_path: Path) -> None:
    shown = tmp_path / "vitrim"
    shown.write_text(
        f"#!{sys.executable}\nimport sys, json\nprint(json.dumps(sys.argv[1:]))\n", encoding="utf-8"
    )
    shown.chmod(0o755)
    entry = json.loads(all_of("ENTRYPOINT")[0])
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DEVICE": "cpu"}
    done = subprocess.run(
        [*entry, "/runs/a b", "--queue", "9"], env=environment, capture_output=True, check=True
    )
    given = json.loads(done.stdout)
    assert given[0] == "serve" and given[-3:] == ["/runs/a b", "--queue", "9"]
    from vitrim.cli.main import read_options

    chosen = read_options("serve", given[1:])
    assert (chosen.host, chosen.port, chosen.device, chosen.runs) == ("0.0.0.0", 8000, "cpu", ["/runs/a b"])
    assert all_of("EXPOSE") == ["8000"]


class Answers(BaseHTTPRequestHandler):
    """A server that is ready, or is not."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/v2/health/ready" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing to say."""


@pytest.mark.parametrize("status", [200, 503])
def test_its_health_check_asks_whether_the_server_is_ready(status: int) -> None:
    (check,) = all_of("HEALTHCHECK")
    python, *rest = json.loads(check[check.index("[") :])
    assert python == "python"
    answers = type("Here", (Answers,), {"status": status})
    with HTTPServer(("127.0.0.1", 0), answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = [part.replace(":8000/", f":{server.server_port}/") for part in rest]
        done = subprocess.run([sys.executable, *here], capture_output=True, check=False)
        server.shutdown()
    assert (done.returncode == 0) == (status == 200)
    assert shlex.split(check)[0].startswith("--interval=")
