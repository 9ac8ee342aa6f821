"""Costs and failures of the fake's calls, set in Python or by a `fake.json`.

It deals with roles, rows and seconds, and never sees arrays.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import BackendError, ModelFilesError, OutOfMemory

COUNTS = ("fail_after", "hang_after", "most_rows")
MOST = {"delay_s": 600.0, "jitter": 1.0, "hang_s": 600.0, "busy": 128.0} | dict.fromkeys(COUNTS, 10**9)


class FakeDevice:
    """A call takes the time that `costs` gives for its role: seconds per call, and per row. `denoise` takes
    `delay_s` in addition. Times vary by up to the share `jitter`, in the same way in every run. They are
    spent by `sleep`.

    After `fail_after` calls of `denoise` each further one fails. The one after `hang_after` takes `hang_s`
    longer. With more than `most_rows` rows memory runs out. `busy` is how much each pixel flickers, so that
    an encoder has as much to do as with a real picture."""

    def __init__(
        self,
        *,
        delay_s: float = 0.0,
        jitter: float = 0.0,
        costs: Mapping[str, tuple[float, float]] | None = None,
        fail_after: int | None = None,
        hang_after: int | None = None,
        hang_s: float = 60.0,
        most_rows: int | None = None,
        busy: float = 0.0,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.delay_s, self.jitter, self.costs = delay_s, jitter, dict(costs or {})
        self.fail_after, self.most_rows = fail_after, most_rows
        self.hang_after, self.hang_s, self.busy = hang_after, hang_s, busy
        self.calls: dict[str, int] = {}
        self.batches: list[int] = []  # rows of the latest `denoise` calls
        self._dice = np.random.Generator(np.random.Philox(11))
        self._sleep = sleep

    def sleep_by(self, sleep: Callable[[float], object]) -> None:
        """Spend time by `sleep` from now on, for instance on a simulated clock."""
        self._sleep = sleep

    def called(self, role: str, rows: int) -> None:
        """Count the call and take its time. Raises BackendError if the settings say so."""
        calls = self.calls[role] = self.calls.get(role, 0) + 1
        denoises = role.startswith("denoise")
        call_s, row_s = self.costs.get(role, (0.0, 0.0))
        takes_s = call_s + row_s * rows + (self.delay_s if denoises else 0.0)
        if takes_s:
            takes_s *= 1 + self.jitter * self._dice.uniform(-1, 1)
        if denoises and self.hang_after is not None and calls == self.hang_after + 1:
            takes_s += self.hang_s
        if takes_s:
            self._sleep(takes_s)
        if not denoises:
            return
        self.batches = [*self.batches[-999:], rows]
        if self.fail_after is not None and calls > self.fail_after:
            raise BackendError(f"the fake backend was told to fail after {self.fail_after} steps")
        if self.most_rows is not None and rows > self.most_rows:
            raise OutOfMemory(f"the fake backend has room for {self.most_rows} rows, not for {rows}")


def read_settings(file: Path) -> dict[str, Any]:
    """FakeDevice's arguments, and `actions` or `shape`, from JSON; {} without one. Raises ModelFilesError."""
    if not file.exists():
        return {}
    try:
        said: dict[str, Any] = json.loads(file.read_text(encoding="utf-8-sig"))
        costs = {str(role): (float(call), float(row)) for role, (call, row) in said.pop("costs", {}).items()}
        names, shape = said.pop("actions", None), said.pop("shape", None)
        if shape is not None and (shape != "helios" or names is not None):
            raise ValueError
        actions = {} if names is None else {"actions": tuple(names)}
        fits = [0 <= float(value) <= MOST[name] for name, value in said.items()]
        fits += [0 <= cost <= MOST["delay_s"] for pair in costs.values() for cost in pair]
        fits += [isinstance(name, str) and 0 < len(name) <= 64 for name in names or ["any"]]
        if not all(fits):
            raise ValueError
        actions |= {} if shape is None else {"shape": shape}
        return said | actions | {name: int(said[name]) for name in COUNTS if name in said} | {"costs": costs}
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        raise ModelFilesError(
            f"{file} must be JSON like {MOST}, at most that; costs: for a role [seconds per call, per row]; "
            'actions: a list of names; or shape: "helios", which has none',
            field="model",
        ) from None
