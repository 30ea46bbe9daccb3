"""The machine and the software a run was made with, in words, for run.json and the report."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RECORDED = ("torch", "torchvision", "timm", "accelerate", "torchmetrics", "safetensors", "numpy")


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
    information = Path("/proc/cpuinfo")
    if not information.exists():
        return False
    lines = information.read_text(encoding="utf-8", errors="replace").splitlines()
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(features.split()))
