"""`/v1/adapters`: what is loaded, and loading and unloading while the server runs.

Loading takes a run folder or an adapter file below the folder named at start, and nothing else: a request
cannot make the server open another path, nor learn whether there is one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Request

from vitrim.deploy.serving.bodies import json_object
from vitrim.deploy.serving.predicting import Served
from vitrim.deploy.serving.refusal import Refusal
from vitrim.deploy.serving.service import Adapter
from vitrim.reading import short
from vitrim.runs.kinds.kind import output_names


def _may_change(request: Request) -> None:
    request.app.state.access.check_change(request.scope)


router = APIRouter(prefix="/v1/adapters")
Change = Depends(_may_change)


@router.get("")
async def adapters(service: Served) -> dict[str, Any]:
    """The adapters that answer now."""
    return {"adapters": [summary(adapter) for adapter in service.adapters.values()]}


@router.get("/{name}")
async def adapter(name: str, service: Served) -> dict[str, Any]:
    """One adapter, with the names of its classes."""
    found = service.find(name)
    return {**summary(found), "class_names": list(output_names(found.model))}


@router.post("", status_code=201, dependencies=[Change])
async def load(request: Request, service: Served) -> dict[str, Any]:
    """Load an adapter: `{"name": NAME, "source": PATH}`, the path below the folder given at start."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "this takes application/json")  # which another site's page may not send unasked
    given = json_object(await request.body())
    for key in ("name", "source"):
        if not isinstance(given.get(key), str):
            raise Refusal(400, f"the body needs {key!r} as text, got {short(given.get(key))}")
    root = service.serving.adapters_root
    if root is None:
        raise Refusal(403, "this server loads nothing while it runs; start it with --adapters_root FOLDER")
    source = below(Path(root), given["source"])
    try:
        return summary(await service.add(given["name"], source))
    except (ValueError, OSError) as error:
        raise Refusal(400, str(error).replace(f"{Path(root).resolve()}/", "")) from error


@router.delete("/{name}", dependencies=[Change])
async def unload(name: str, service: Served) -> dict[str, Any]:
    """Take an adapter out, once it has answered what it accepted."""
    await service.remove(name)
    return {"removed": name}


def summary(adapter: Adapter) -> dict[str, Any]:
    """An adapter in a few values."""
    about = adapter.about
    return {
        "name": adapter.name,
        "task": about.task,
        "classes": about.outputs,
        "image_size": list(about.image_size),
        "bytes": about.bytes,
    }


def below(root: Path, given: str) -> Path:
    """A path inside the folder of adapters, links followed; the same refusal for all that is not one."""
    try:
        place = (root / given).resolve()
        inside = place.is_relative_to(root.resolve()) and place.exists()
    except (OSError, ValueError, RuntimeError):  # too long, a null character, links in a circle
        inside = False
    if not inside:
        raise Refusal(400, f"there is no {short(given)} in the folder of adapters")
    return place
