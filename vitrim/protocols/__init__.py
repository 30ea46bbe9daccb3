"""Published training protocols by name, benchmark/method: `PROTOCOLS["vtab/gps"]`, `--protocol vtab/gps`."""

from __future__ import annotations

from vitrim.checks import did_you_mean
from vitrim.protocols.larger import LARGER
from vitrim.protocols.protocol import Protocol as Protocol
from vitrim.protocols.small import SMALL
from vitrim.protocols.vtab import VTAB

PROTOCOLS: dict[str, Protocol] = {**VTAB, **SMALL, **LARGER}


def find_protocol(name: str) -> Protocol:
    """A protocol by its name; the nearest one is offered when the name is unknown."""
    if name not in PROTOCOLS:
        raise ValueError(f"no protocol {name!r}; {did_you_mean(name, PROTOCOLS)}; see vitrim list protocols")
    return PROTOCOLS[name]


def values_for(protocol: Protocol, data: str) -> dict[str, object]:
    """What a protocol sets for the task of a data spec such as "vtab:cifar"; nothing for other data."""
    from vitrim.data.vtab_tasks import NAMES

    kind, _, rest = data.partition(":")
    task = rest.partition("?")[0].lower().replace("-", "_")
    if kind == "vtab" and task in NAMES:
        task = NAMES[task].name
    benchmark = "vtab" if kind == "vtab" else kind
    belongs = any(name.startswith(f"{benchmark}/") and known is protocol for name, known in PROTOCOLS.items())
    return dict(protocol.per_task.get(task, {})) if belongs else {}
