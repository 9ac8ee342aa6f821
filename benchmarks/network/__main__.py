"""`python -m benchmarks.network [SCENARIO …]`: how a session plays over bad links. Needs root and Linux.

Runs a server in one network namespace, a player in another and an emulated link between them, and prints a
table and a line of JSON. "late ms" is the delay that the emulator itself added to 99 % of the packets at
most; if it is more than a few milliseconds, the machine was too busy and the row says little about the link.
"decoded" and "its own" are frames per second and seconds of freezes as Chromium counts them since it joined.
They do not depend on the screen, which a busy machine updates too rarely.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.network.emulator import SERVER_ADDRESS, Namespaces, linked
from benchmarks.network.scenarios import SCENARIOS, Scenario
from benchmarks.report import BenchError
from benchmarks.server.subject import stop

PORT, KEY = 8080, "5d0c7e9ab13f4826ce570d9b8a2f1634"
START_S = 60.0
BUSY = 5.0  # pixel values of flicker: about 800 kb/s at the top rung
FREEZE_S = 0.25  # without a new frame: 4 frames of the built-in world


@contextlib.contextmanager
def busy() -> Iterator[str]:
    """The folder of a fake model whose pictures are as hard to encode as those of a real one."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "fake.json").write_text(json.dumps({"busy": BUSY}), encoding="utf-8")
        yield folder


@contextlib.contextmanager
def server(spaces: Namespaces, arguments: list[str]) -> Iterator[str]:
    """Start a server and yield its base address. Raises BenchError."""
    serve = [sys.executable, "-m", "server.cli", "serve", "--host", SERVER_ADDRESS, "--port", str(PORT)]
    command = spaces.command(spaces.server, *serve, "--mqtt", "off", "--api-key", KEY, *arguments)
    base = f"http://{SERVER_ADDRESS}:{PORT}/"
    with tempfile.TemporaryFile("a+", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            ready = f"import httpx; raise SystemExit(httpx.get('{base}readyz', timeout=2).status_code != 200)"
            check = spaces.command(spaces.server, sys.executable, "-c", ready)
            until_s = time.monotonic() + START_S
            while subprocess.run(check, capture_output=True, check=False).returncode:
                if process.poll() is not None or time.monotonic() > until_s:
                    log.seek(0)
                    raise BenchError(f"the server did not start: {log.read()[-500:]}")
            yield base
        finally:
            stop(process)


def play(spaces: Namespaces, base: str, player: str, scenario: Scenario) -> dict[str, Any]:
    """What the player recorded. Raises BenchError."""
    spaces.link.condition = scenario.steps[0][1]
    spaces.link.lateness_ms()
    arguments = [sys.executable, "-m", "benchmarks.network.player", player, base, KEY, str(scenario.seconds)]
    arguments += ["picture"] if scenario.from_picture else []
    command = spaces.command(spaces.viewer, *arguments)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        if not line:
            raise BenchError(f"the player did not start: {process.stderr.read()[-500:]}")
        started_s = json.loads(line)["started"]
        for at_s, condition in scenario.steps[1:]:
            time.sleep(max(0.0, started_s + at_s - time.monotonic()))
            spaces.link.condition = condition
        out, error = process.communicate(timeout=scenario.seconds + 60)
    if process.returncode:
        raise BenchError(f"the player failed: {error[-500:]}")
    result: dict[str, Any] = json.loads(out)
    return result | {"late_ms": spaces.link.lateness_ms()}


def figures(scenario: Scenario, seen: dict[str, Any]) -> dict[str, Any]:
    """Frames per second and freezes from `settled_s` on."""
    shown = [t for t in seen["shown"] if t >= scenario.settled_s]
    gaps = list(pairwise([scenario.settled_s, *shown, scenario.seconds]))
    freezes = [(a, b - a) for a, b in gaps if b - a > FREEZE_S]
    rungs = [message["rung"] for _, message in seen["rungs"]]
    return {
        "fps": round(len(shown) / (scenario.seconds - scenario.settled_s), 1),
        "frozen_s": round(sum(length for _, length in freezes), 2),
        "longest_s": round(max((length for _, length in freezes), default=0.0), 2),
        "freezes": [(round(at, 1), round(length, 2)) for at, length in freezes][:20],
        "rungs": [(round(at, 1), m["rung"], m["why"]) for at, m in seen["rungs"]][:60],
        "last_rung": rungs[-1] if rungs else None,
        "decoded_fps": round(seen["stats"]["decoded"] / scenario.seconds, 1) if seen["stats"] else None,
        "freezes_s": round(seen["stats"]["freezes"], 2) if seen["stats"] else None,
        "late_ms": seen["late_ms"],
        "stats": seen["stats"],
        "kbps": round(seen["stats"].get("bytes", 0) * 8 / 1000 / scenario.seconds),
    }


def cell(result: dict[str, Any], name: str) -> str:
    return "–" if result[name] is None else str(result[name])


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.network", description=__doc__.splitlines()[0])
    parser.add_argument("scenario", nargs="*", choices=[*SCENARIOS, []], help="default: all")
    parser.add_argument("--player", default="viewer", choices=("viewer", "chromium", "page"))
    parser.add_argument(
        "--serve", default="", metavar="OPTIONS", help="for `psistream serve` (default: a busy fake model)"
    )
    options = parser.parse_args()
    results: dict[str, Any] = {}
    try:
        with contextlib.ExitStack() as stack:
            arguments = options.serve.split() or ["--backend", "fake", "--model", stack.enter_context(busy())]
            spaces = stack.enter_context(linked())
            base = stack.enter_context(server(spaces, arguments))
            heads = f"{'link':<46}{'fps':>6}{'frozen':>9}{'longest':>9}{'decoded':>9}{'its own':>9}"
            print(f"{heads}{'late ms':>9}  rung")
            for name in options.scenario or SCENARIOS:
                scenario = SCENARIOS[name]
                result = results[name] = figures(scenario, play(spaces, base, options.player, scenario))
                row = f"{scenario.about:<46}{result['fps']:>6}{result['frozen_s']:>8.2f}s"
                row += f"{result['longest_s']:>8.2f}s{cell(result, 'decoded_fps'):>9}"
                row += f"{cell(result, 'freezes_s'):>9}{result['late_ms']:>9}"
                print(f"{row}  {result['last_rung']}", flush=True)
    except BenchError as error:
        print(f"benchmarks.network: {error}", file=sys.stderr)
        return 1
    finally:
        print(json.dumps({"player": options.player, "results": results}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
