"""A seed is one history, so that what went wrong once goes wrong again."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.rigs.simulation.world import simulate

SEED = 56  # sessions are balanced in it: its replays differed, since dice were rolled that nobody had seeded


def trace(seed: int) -> str:
    """All that happened, and what was sent when."""
    outcome = simulate(seed, joined=True)
    return "\n".join([*outcome.notes, *outcome.wrong, f"{outcome.settled_s} {outcome.digest}"])


def test_a_seed_is_the_same_history_after_another_one() -> None:
    first = trace(3)
    simulate(4)
    assert trace(3) == first


def test_a_seed_is_the_same_history_in_another_process_that_hashes_differently() -> None:
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    done = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import SEED, trace; print(trace(SEED))"],
        env={**os.environ, "PYTHONHASHSEED": other, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=240,
    )
    assert done.stdout.rstrip("\n") == trace(SEED)
