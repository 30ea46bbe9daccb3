"""`POST /v1/predict`: pictures in, names and probabilities out, as `vitrim predict --json` writes them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from vitrim.checks import did_you_mean
from vitrim.deploy.serving.bodies import pictures_of
from vitrim.deploy.serving.refusal import Refusal
from vitrim.deploy.serving.service import Service
from vitrim.reading import short

ASKED = ("adapter", "top")
router = APIRouter()


def service_of(request: Request) -> Service:
    """The service of the application that a request came to."""
    found: Service = request.app.state.service
    return found


Served = Annotated[Service, Depends(service_of)]


@router.post("/v1/predict")
async def predict(
    request: Request,
    service: Served,
    adapter: Annotated[str | None, Query(description="its name; needed where several are loaded")] = None,
    top: Annotated[int, Query(description="how many classes to name")] = 1,
) -> dict[str, Any]:
    """The best guesses for one picture or several."""
    for given in request.query_params:
        if given not in ASKED:
            raise Refusal(400, f"there is no {short(given)} to ask for; {did_you_mean(given, ASKED)}")
    service.find(adapter)  # before a body is read for nothing
    pictures = await pictures_of(request, service.decoder, service.serving.queue)
    found, answers = await service.predict(adapter, pictures, top)
    return {
        "adapter": found.name,
        "task": found.about.task,
        "results": [
            {
                "picture": name,
                "predictions": [
                    {"class": guess.name, "probability": round(guess.probability, 6)} for guess in guesses
                ],
            }
            for (name, _), guesses in zip(pictures, answers, strict=True)
        ],
    }
