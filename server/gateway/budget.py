"""Limits how much one client may use: concurrent sessions, and seconds of device time per minute.

A client is identified by a name, usually its address. Its share refills continuously. A refusal says when
enough will be available again; nothing is closed here. The table is bounded: when it is full, clients without
sessions are forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engine.errors import Full

MINUTE_S = 60.0
MAX_NAMES = 1024
RELEASE_SHARE = 0.5  # a client that has used up its share waits until this fraction of it has refilled


def device_s(timings_ms: Mapping[str, float]) -> float:
    """The device time of one segment in seconds: the sum of its turns, each counted in full. `total` is not
    used, since it includes other sessions' turns in between."""
    turns_ms = [took_ms for name, took_ms in timings_ms.items() if name != "total"]
    return (sum(turns_ms) if turns_ms else timings_ms.get("total", 0.0)) / 1000


class OverBudget(Full):
    """This client has used up its share."""

    code = "over_budget"


@dataclass
class _Account:
    left_s: float
    at_s: float
    sessions: int = 0
    over: bool = False


class Budgets:
    """A limit of 0 means no limit. The client None has no limits."""

    def __init__(self, sessions: int, device_s: float, clock: Callable[[], float]) -> None:
        self._sessions, self._device_s, self._clock = sessions, device_s, clock
        self._accounts: dict[str, _Account] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    def enter(self, client: str | None) -> None:
        """Count a new session. Raises OverBudget."""
        if client is None:
            return
        if self.over(client):
            raise OverBudget(
                f"your share of the device, {self._device_s:g} s per minute, is used up: wait a moment",
                retry_after_s=math.ceil(self.back_in_s(client)),
            )
        account = self._account(client)
        if self._sessions and account.sessions >= self._sessions:
            raise OverBudget(f"you have {account.sessions} sessions open, which is the limit: close one")
        account.sessions += 1

    def leave(self, client: str | None) -> None:
        """Count a closed session."""
        if client is not None and client in self._accounts:
            self._accounts[client].sessions -= 1

    def spend(self, client: str | None, seconds: float) -> None:
        """Charge `seconds` of device time."""
        if client is not None and self._device_s:
            account = self._account(client)
            account.left_s -= seconds
            account.over = account.over or account.left_s <= 0

    def over(self, client: str | None) -> bool:
        """Whether the client has used up its share and must wait."""
        if client is None or not self._device_s or client not in self._accounts:
            return False
        account = self._account(client)
        if account.left_s >= RELEASE_SHARE * self._device_s:
            account.over = False
        return account.over

    def back_in_s(self, client: str) -> float:
        """How many seconds the client must still wait, if it uses nothing meanwhile."""
        lacking_s = RELEASE_SHARE * self._device_s - self._account(client).left_s
        return max(0.0, lacking_s * MINUTE_S / self._device_s) if self._device_s else 0.0

    def _account(self, client: str) -> _Account:
        """The client's account, refilled up to now."""
        now_s = self._clock()
        account = self._accounts.get(client)
        if account is None:
            self._forget(now_s)
            account = self._accounts[client] = _Account(self._device_s, now_s)
        self._refill(account, now_s)
        return account

    def _refill(self, account: _Account, now_s: float) -> None:
        gained_s = (now_s - account.at_s) * self._device_s / MINUTE_S
        account.left_s, account.at_s = min(self._device_s, account.left_s + gained_s), now_s

    def _forget(self, now_s: float) -> None:
        """If the table is full, drop half of the clients without sessions, those with the most share left
        first."""
        if len(self._accounts) < MAX_NAMES:
            return
        idle = [name for name, account in self._accounts.items() if account.sessions <= 0]
        for name in idle:
            self._refill(self._accounts[name], now_s)
        idle.sort(key=lambda name: -self._accounts[name].left_s)
        for name in idle[: 1 + len(idle) // 2]:
            del self._accounts[name]
