"""The application on Ray Serve: the same answers from several replicas, which hold few adapters at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import torch
import yaml
from served import huge_header, pictures, same, together

from vitrim import predict
from vitrim.cli.main import main
from vitrim.cli.verbs.serve import RAY
from vitrim.deploy.serving.on_ray.front import Elsewhere
from vitrim.deploy.serving.on_ray.plan import make_plan
from vitrim.deploy.serving.on_ray.running import NAME, deployed, make_deployment
from vitrim.deploy.serving.on_ray.settings import RaySettings, ray_settings
from vitrim.deploy.serving.refusal import Refusal
from vitrim.deploy.serving.settings import Serving

TOKEN = "let-me-in"


@pytest.mark.timeout(180)
def test_replicas_on_a_cluster_answer_as_the_adapters_do_alone(
    files: dict[str, Path], alone_on_ray: None
) -> None:
    ray = pytest.importorskip("ray")
    from ray import serve

    settings = ray_settings(
        {"max_adapters": 2, "front": {"cpus": 0.5},
         "computing": {"cpus": 0.5, "min_replicas": 2, "max_replicas": 2}}
    )  # fmt: skip
    serving = Serving(port=0, token=TOKEN, max_batch=4, max_wait=20.0)
    shown = pictures()
    wanted = {
        (name, picture): [(guess.name, guess.probability) for guess in predict(path, content, top=2)]
        for name, path in files.items()
        for picture, content in shown.items()
    }
    with deployed(make_plan(files, serving, settings)) as address:
        with httpx.Client(base_url=address, timeout=60, headers={"authorization": f"Bearer {TOKEN}"}) as http:

            def ask(case: tuple[str, str]) -> list[tuple[str, float]]:
                found = http.post(f"/v1/predict?adapter={case[0]}&top=2", content=shown[case[1]])
                assert found.status_code == 200, found.text
                (result,) = found.json()["results"]
                return [(guess["class"], guess["probability"]) for guess in result["predictions"]]

            with ThreadPoolExecutor(8) as threads:
                found = dict(zip(wanted, threads.map(ask, wanted), strict=True))
            for case, guesses in found.items():
                same(guesses, wanted[case])
            assert {each["name"] for each in http.get("/v1/adapters").json()["adapters"]} == set(files)
            refused = [
                (http.post("/v1/predict?adapter=nobody", content=b"x"), 404, "no adapter 'nobody'"),
                (http.post("/v1/predict?adapter=lora", content=b"no picture"), 422, ""),
                (http.post("/v1/predict?adapter=lora", content=huge_header()), 413, "pixels"),
                (http.delete("/v1/adapters/lora"), 403, "deploy it again"),
                (httpx.get(f"{address}/v1/adapters"), 401, "Authorization"),
            ]  # fmt: skip
            for answer, status, phrase in refused:
                assert (answer.status_code, phrase in answer.text) == (status, True), answer.text
        computing = serve.get_deployment_handle("computing", NAME)
        held = [computing.in_memory.remote().result() for _ in range(6)]
        assert all(len(names) <= 2 for names in held), held
        assert serve.status().applications[NAME].deployments["computing"].replica_states == {"RUNNING": 2}
    assert not ray.is_initialized()


def test_what_print_config_writes_is_what_the_settings_are(tmp_path: Path, capsys) -> None:
    assert RaySettings(**RAY).model_dump() == RAY == ray_settings({}).model_dump()
    assert main(["serve", "runs/one", "--print-config"]) == 0
    written = yaml.safe_load(capsys.readouterr().out)
    assert written["ray"] == RAY
    written["ray"]["computing"]["max_replica"] = 4
    written["on"] = "ray"
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")
    assert main(["serve", "--config", str(tmp_path / "serve.yaml")]) == 2
    said = capsys.readouterr().err
    assert "ray.computing has no setting 'max_replica'; did you mean max_replicas" in said
    (tmp_path / "serve.yaml").write_text("on: ray\nruns: [a]\n", encoding="utf-8")
    assert main(["serve", "--config", str(tmp_path / "serve.yaml")]) == 2
    assert "write 'on', in quotes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "phrase"),
    [
        ({"computing": {"max_replicas": 0}}, "ray.computing.max_replicas is 0, but it should be greater"),
        ({"computing": {"min_replicas": 3}}, "max_replicas is 1, below min_replicas"),
        ({"computing": {"gpus": 1}}, "gpus is 1 and --device is cpu"),
        ({"computing": {"cpus": "all"}}, "ray.computing.cpus is 'all', but it should be a valid number"),
        ({"fronts": {}}, "ray has no setting 'fronts'; did you mean front"),
        ({"front": 2}, "ray.front is 2, but it should be a valid dictionary"),
        ({"max_adapters": True}, "ray.max_adapters is True, but it should be a valid integer"),
    ],
)
def test_settings_are_refused_in_a_sentence(given: dict, phrase: str) -> None:
    with pytest.raises(ValueError) as refused:
        ray_settings(given)
    assert phrase in str(refused.value)


def test_replicas_are_fixed_or_scale(files: dict[str, Path]) -> None:
    pytest.importorskip("ray.serve")
    one = {"lora": files["lora"]}
    scaling = {"computing": {"min_replicas": 1, "max_replicas": 5, "target_requests": 8.0}}
    for given, fixed in (({}, True), (scaling, False)):
        deployment = make_deployment(make_plan(one, Serving(), ray_settings(given)))
        computing = deployment._bound_deployment.init_args[0]._bound_deployment
        scale = computing._deployment_config.autoscaling_config
        assert (scale is None) == fixed
        if scale is not None:
            assert (scale.min_replicas, scale.max_replicas, scale.target_ongoing_requests) == (1, 5, 8.0)


def test_what_one_server_can_do_and_a_deployment_cannot_is_refused(tmp_path: Path, files, capsys) -> None:
    with pytest.raises(ValueError, match="for one server"):
        make_plan(files, Serving(adapters_root=tmp_path), ray_settings({}))
    assert main(["serve", str(files["lora"]), "--on", "moon"]) == 2
    assert "on must be one of 'here', 'ray'" in capsys.readouterr().err
    assert main(["serve", str(files["lora"]), "--ray", '{"max_adapters": 3}']) == 2
    assert "are for --on ray" in capsys.readouterr().err


class Replicas:
    """In place of Ray's handle: what every call comes to."""

    def __init__(self, outcome: Callable[[torch.Tensor], Awaitable[torch.Tensor]]) -> None:
        self.asked: list[str] = []
        self.logits = SimpleNamespace(remote=outcome)

    def options(self, multiplexed_model_id: str) -> "Replicas":
        self.asked.append(multiplexed_model_id)
        return self


def submitted(outcome: Callable[[torch.Tensor], Awaitable[torch.Tensor]]) -> tuple[torch.Tensor, list[str]]:
    """One picture of the adapter "lora" on its way through a front."""

    async def one() -> tuple[torch.Tensor, list[str]]:
        replicas = Replicas(outcome)
        elsewhere = Elsewhere(replicas, lambda pictures, seconds: None)
        return await asyncio.wrap_future(elsewhere.submit(torch.ones(3), "lora")), replicas.asked

    found: tuple[torch.Tensor, list[str]] = together(one())
    return found


def test_a_front_hands_on_answers_and_says_when_a_replica_was_lost() -> None:
    exceptions = pytest.importorskip("ray.exceptions")

    async def doubled(pixels: torch.Tensor) -> torch.Tensor:
        return 2 * pixels

    async def lost(pixels: torch.Tensor) -> torch.Tensor:
        raise exceptions.RayActorError

    async def broken(pixels: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("the adapter is broken")

    logits, asked = submitted(doubled)
    assert logits.tolist() == [2.0] * 3 and asked == ["lora"]
    with pytest.raises(Refusal) as refused:
        submitted(lost)
    assert refused.value.status == 503 and int(refused.value.headers["retry-after"]) > 0
    with pytest.raises(RuntimeError, match="the adapter is broken"):
        submitted(broken)


def test_what_a_front_gives_up_is_given_up_by_the_replica() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def slow(pixels: torch.Tensor) -> torch.Tensor:
        begun.set()
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()
        return pixels

    async def give_up() -> None:
        elsewhere = Elsewhere(Replicas(slow), lambda pictures, seconds: None)
        answer = asyncio.ensure_future(asyncio.wrap_future(elsewhere.submit(torch.ones(3), "lora")))
        await begun.wait()
        answer.cancel()
        await asyncio.wait_for(ended.wait(), 10)

    together(give_up())
