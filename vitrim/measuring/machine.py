"""The machine and the software a run was made with, in words, for run.json and the report."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RECORDED = ("torch", "torchvision", "timm", "accelerate", "safetensors", "numpy")

# Names of x86 and ARM
UNITS = {
    "bf16": ("amx_bf16", "avx512_bf16", "bf16"),
    "int8": ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp"),
}


def versions() -> dict[str, str]:
    own = {"vitrim": version("vitrim"), "python": platform.python_version()}
    return own | package_versions(*RECORDED)


def package_versions(*names: str) -> dict[str, str]:
    """Installed versions, in words where there is none."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine() -> dict[str, object]:
    import torch

    words: dict[str, object] = {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cpus": cpu_count(),
        "threads": torch.get_num_threads(),
        "units": units_in_words(),
    }
    if torch.cuda.is_available():
        words["gpu"] = torch.cuda.get_device_name()
        words["gpus"] = torch.cuda.device_count()
    return words


def cpu_count() -> int:
    """CPUs this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def computes_bf16() -> bool:
    """Whether the processor multiplies bfloat16 by itself; False where the system does not say."""
    return bool(low_precision_units()["bf16"])


def low_precision_units() -> dict[str, tuple[str, ...]]:
    """The processor's units for products of fewer bits, by what they multiply and the system's names for
    them; empty where it has none or the system does not say."""
    found = _cpu_features()
    return {kind: tuple(name for name in names if name in found) for kind, names in UNITS.items()}


def units_in_words() -> str:
    """Of the processor, in one line.

    >>> units_in_words()
    "bfloat16: amx_bf16, avx512_bf16; 8 bits: amx_int8, avx512_vnni, avx_vnni"
    """
    words = {"bf16": "bfloat16", "int8": "8 bits"}
    named = [f"{words[kind]}: {', '.join(names) or 'none'}" for kind, names in low_precision_units().items()]
    return "; ".join(named)


def _cpu_features() -> set[str]:
    """As Linux names them, where there is Linux, and as torch does (its newer versions)."""
    import torch

    told: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    features = {name for name, there in told.items() if there is True}
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text(encoding="utf-8", errors="replace").splitlines()
        features |= set(next((line for line in lines if line.startswith(("flags", "Features"))), "").split())
    return features
