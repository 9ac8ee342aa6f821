"""The README's first command, as a stranger runs it: a clone, an empty environment, `make run`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from benchmarks.network.ports import free_port
from tests.rigs.paths import ROOT

INSTALL_S = 900


@pytest.mark.slow
@pytest.mark.timeout(INSTALL_S + 60)
def test_make_run_serves_the_built_in_model_from_a_clone(tmp_path: Path) -> None:
    clone, port = tmp_path / "psistream", free_port()
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", str(ROOT), str(clone)], check=True)
    with subprocess.Popen(
        ["make", "run", f"ARGS=--port {port} --mqtt off"],
        cwd=clone,
        env={k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"},
        start_new_session=True,
    ) as process:
        try:
            ready = wait_until_ready(process, f"http://127.0.0.1:{port}/readyz")
            assert (ready["ready"], ready["model"]) == (True, "wander")
            assert not list((clone / ".venv").glob("lib/python*/site-packages/torch"))
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def wait_until_ready(process: subprocess.Popen[bytes], url: str) -> dict[str, object]:
    for _ in range(INSTALL_S):
        assert process.poll() is None, f"make run ended with {process.returncode}"
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                body: dict[str, object] = json.load(response)
                return body
        except OSError:
            time.sleep(1)
    raise AssertionError(f"{url} did not answer in {INSTALL_S} s")
