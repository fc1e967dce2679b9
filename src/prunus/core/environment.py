"""What numbers depend on besides the inputs: versions, processor, threads. No host, user, path or time."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

_NUMERIC_PACKAGES = (
    *("prunus", "torch", "numpy", "scipy", "torchvision", "timm", "transformers", "tokenizers", "pillow"),
    *("faiss-cpu", "scikit-learn", "onnxruntime"),
)
PACKAGES = (*_NUMERIC_PACKAGES, "safetensors", "peft", "datasets", "pyarrow", "polars", "duckdb", "onnx")
NUMERIC = ("python", "machine", "processor", "threads", *_NUMERIC_PACKAGES)


def environment(threads: int | None = None) -> dict[str, Any]:
    """Facts for env.json. Imports no package; versions come from what is installed.

    Args:
        threads: of the processes that compute; default what OMP_NUM_THREADS says, else the cores of this process.

    Returns:
        python, implementation, system, machine, processor, cores, threads, packages.
    """
    from prunus import __version__

    packages = {name: version for name in PACKAGES if (version := _version(name))}
    return {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": processor(),
        "cores": cores(),
        "threads": threads or int(os.environ.get("OMP_NUM_THREADS") or cores()),
        "packages": {**packages, "prunus": __version__},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def cores() -> int:
    """Processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """The processor's model name, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_bytes() -> int:
    """Bytes this process has held at most; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # not a Unix
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory_free() -> int:
    """Bytes of memory that can be had now; -1 if the system does not say."""
    info = Path("/proc/meminfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) * 1024
    return -1


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs and can change numbers, one line each: `torch 2.13.0 -> 2.14.1`."""
    before = {**old, **old.get("packages", {})}
    after = {**new, **new.get("packages", {})}
    names = sorted(name for name in NUMERIC if before.get(name) != after.get(name))
    return [f"{name} {before.get(name, 'absent')} -> {after.get(name, 'absent')}" for name in names]
