"""`--ops-port`: health and metrics on a separate port, and nothing else there."""

from __future__ import annotations

import httpx

from benchmarks.network.ports import free_port
from tests.rigs.waiting import LONG_S
from tests.server.test_cli import serving


def test_health_and_metrics_have_their_own_port() -> None:
    ops = free_port()
    with serving("--mqtt", "embedded:0", "--ops-port", str(ops)) as (process, lines):
        main = lines[0].rpartition(" ")[2]
        with httpx.Client(trust_env=False, timeout=LONG_S) as http:
            for path in ("livez", "readyz", "metrics"):
                assert http.get(f"http://127.0.0.1:{ops}/{path}").status_code == 200
            assert "psistream_" in http.get(f"http://127.0.0.1:{ops}/metrics").text
            assert http.get(f"http://127.0.0.1:{ops}/v1/sessions/main").status_code == 404
            assert http.get(f"{main}/livez").status_code == 200
            assert http.get(f"{main}/metrics").status_code == 404
        process.terminate()
        assert process.wait(LONG_S) == 0
