"""Published training protocols by name, benchmark/method: `PROTOCOLS["vtab/gps"]`, `--protocol vtab/gps`."""

from __future__ import annotations

from vitrim.checks import did_you_mean
from vitrim.settings.protocols.larger import LARGER
from vitrim.settings.protocols.protocol import Protocol as Protocol
from vitrim.settings.protocols.small import SMALL
from vitrim.settings.protocols.video import VIDEO
from vitrim.settings.protocols.vtab import VTAB

PROTOCOLS: dict[str, Protocol] = {**VTAB, **SMALL, **LARGER, **VIDEO}


def find_protocol(name: str) -> Protocol:
    """A protocol by its name; the nearest one is offered when the name is unknown."""
    if name not in PROTOCOLS:
        raise ValueError(f"no protocol {name!r}; {did_you_mean(name, PROTOCOLS)}; see vitrim list protocols")
    return PROTOCOLS[name]


def values_for(protocol: Protocol, data: str) -> dict[str, object]:
    """What a protocol sets for the task of a data spec such as "vtab:cifar"; nothing for other data."""
    kind, _, rest = data.partition(":")
    if not any(known is protocol for name, known in PROTOCOLS.items() if name.startswith(f"{kind}/")):
        return {}
    return dict(protocol.per_task.get(_task(kind, rest.partition("?")[0]), {}))


def _task(kind: str, name: str) -> str:
    """The one name of a task that goes by several."""
    from vitrim.data.fgvc import NAMES as FINE_GRAINED
    from vitrim.data.fgvc import plain
    from vitrim.data.vtab_tasks import NAMES as VTAB_TASKS

    if kind == "vtab":
        task = VTAB_TASKS.get(name.lower().replace("-", "_"))
        return task.name if task else name
    known = FINE_GRAINED.get(plain(name)) if kind == "fgvc" else None
    return known.name if known else name
