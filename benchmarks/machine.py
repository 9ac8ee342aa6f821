"""The machine of a benchmark, and the resources that processes use, as the system reports them.

Memory and processor time come from /proc; on systems without it they are None.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("psistream", "onnxruntime", "aiortc", "av", "numpy", "fastapi", "uvicorn")


def description() -> dict[str, Any]:
    """Hardware and versions, for the head of a table and for the JSON."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),  # other work on the machine before the benchmark
        "commit": _commit(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def one_line(machine: dict[str, Any]) -> str:
    packages = ", ".join(f"{k} {v}" for k, v in machine["packages"].items())
    load = f", load {machine['load']} at the start" if machine["load"] >= 0.3 else ""
    commit = f", commit {machine['commit']}" if machine["commit"] else ""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB{load}; "
        f"Python {machine['python']}, {packages}{commit}"
    )


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    found, todo = [], [pid]
    while todo:
        current = todo.pop()
        found.append(current)
        todo += children(current)
    return found


def children(pid: int) -> list[int]:
    """Of all its threads. Those that end meanwhile may be missing."""
    found: list[int] = []
    for thread in _names(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/task/{thread}/children").read_text(encoding="utf-8")
            found += [int(child) for child in text.split()]
    return found


def resident_bytes(pid: int) -> int | None:
    """Resident memory of the process and all its descendants; shared pages count once for each of them."""
    total = 0
    for each in tree(pid):
        try:
            pages = int(Path(f"/proc/{each}/statm").read_text(encoding="utf-8").split()[1])
        except (OSError, IndexError, ValueError):
            continue
        total += pages * os.sysconf("SC_PAGE_SIZE")
    return total or None


def open_files(pid: int) -> int:
    """Open files of the process and all its descendants."""
    return sum(len(_names(f"/proc/{each}/fd")) for each in tree(pid))


def thread_count(pid: int) -> int:
    """Threads of the process and all its descendants."""
    return sum(len(_names(f"/proc/{each}/task")) for each in tree(pid))


def _names(folder: str) -> list[str]:
    """Empty once the process has ended."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def cpu_seconds(pid: int) -> float | None:
    """Processor time used by the process and all its descendants."""
    ticks, seen = 0, False
    for each in tree(pid):
        try:
            fields = Path(f"/proc/{each}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        ticks, seen = ticks + int(fields[11]) + int(fields[12]), True
    return ticks / os.sysconf("SC_CLK_TCK") if seen else None


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gib() -> int | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)
    except (ValueError, OSError):
        return None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
