"""Runs a build in a separate process, and holds the lock that allows one build per engine. Handles requests
and results (export.tensorrt.worker), not models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.errors import Unavailable
from export.tensorrt.worker import BuildResult, Request

Progress = Callable[[str], None]


def worker(request: Request, log: Path, progress: Progress, timeout_s: float) -> BuildResult:
    """Run the build in a separate process. A crash or timeout of that process is also a result."""
    outcome = Path(request.result)
    outcome.unlink(missing_ok=True)
    ask = outcome.with_suffix(".request")
    ask.write_text(json.dumps(asdict(request)))
    here = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    try:
        with log.open("w", encoding="utf-8") as messages:
            process = subprocess.Popen(
                [sys.executable, "-m", "export.tensorrt.worker", str(ask)],
                stdout=subprocess.PIPE,
                stderr=messages,
                text=True,
                env={**os.environ, "PYTHONPATH": paths},
            )
            with process:
                try:
                    watch(process, progress, timeout_s)
                except subprocess.TimeoutExpired:
                    return BuildResult(errors=(f"stopped after {timeout_s:.0f} s",))
        if outcome.is_file():
            return read_result(outcome)
        how = f"signal {-process.returncode}" if process.returncode < 0 else f"status {process.returncode}"
        return BuildResult(errors=(f"the builder died ({how}) without a result",))
    finally:
        ask.unlink(missing_ok=True)
        outcome.unlink(missing_ok=True)


def watch(process: subprocess.Popen[str], progress: Progress, timeout_s: float) -> None:
    """Forward progress. Raises TimeoutExpired after killing the process."""

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            progress(line.strip())

    reader = threading.Thread(target=read, name="progress", daemon=True)
    reader.start()
    try:
        process.wait(timeout_s)
    except BaseException:
        process.kill()
        raise
    finally:
        reader.join(5)


def read_result(outcome: Path) -> BuildResult:
    data: dict[str, Any] = json.loads(outcome.read_text(encoding="utf-8"))
    return BuildResult(**{**data, "errors": tuple(data["errors"])})


@contextmanager
def lock(file: Path, progress: Progress) -> Iterator[None]:
    """Allow one process at a time to build a key. The next one then finds the engine in the cache."""
    try:
        import fcntl
    except ImportError as e:
        raise Unavailable("engines can be built on Linux only", field="backend") from e
    with file.open("w", encoding="utf-8") as locked:
        try:
            fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another process that builds the same engine")
            fcntl.flock(locked, fcntl.LOCK_EX)
        yield
