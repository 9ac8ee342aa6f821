"""Limits how much one client may use: concurrent sessions, and seconds of device time per minute.

A client is identified by a name, usually its address. Its share refills continuously. A refusal says when
enough will be available again; nothing is closed here. The table is bounded: when it is full, clients without
sessions are forgotten.

In a cluster each gateway tells the others, through the directory, what its clients use, and counts what they
use there. So a client has one share, but within about a second it may begin too much at several gateways.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engine.errors import Full
from server.cluster.messages import ClientUse

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
        self._elsewhere: dict[str, int] = {}  # open sessions at other gateways
        self._used: dict[str, float] = {}  # device seconds used here that were not reported yet

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
        has = account.sessions + self._elsewhere.get(client, 0)
        if self._sessions and has >= self._sessions:
            raise OverBudget(f"you have {has} sessions open, and may have {self._sessions}: close one")
        account.sessions += 1

    def continued(self, client: str | None, whole_in_s: float) -> None:
        """Count a session that goes on here from elsewhere, which no limit ends. Its client's share is whole
        again in `whole_in_s` seconds at the earliest, or in two minutes if that is later."""
        if client is None:
            return
        account = self._account(client)
        account.sessions += 1
        if self._device_s:
            used_s = min(max(0.0, whole_in_s), 2 * MINUTE_S) * self._device_s / MINUTE_S
            account.left_s = min(account.left_s, self._device_s - used_s)
            account.over = account.over or account.left_s <= 0

    def leave(self, client: str | None) -> None:
        """Count a closed session."""
        if client is not None and client in self._accounts:
            self._accounts[client].sessions -= 1

    def spend(self, client: str | None, seconds: float) -> None:
        """Charge `seconds` of device time."""
        if client is not None and self._device_s:
            self._charge(client, seconds)
            if client in self._used or len(self._used) < MAX_NAMES:
                self._used[client] = self._used.get(client, 0.0) + seconds

    def elsewhere(self, uses: Mapping[str, ClientUse]) -> None:
        """What clients have at the other gateways: open sessions, and device time since the last call."""
        self._elsewhere = {client: use.sessions for client, use in uses.items() if use.sessions > 0}
        for client, use in uses.items():
            if self._device_s and use.device_s > 0:
                self._charge(client, use.device_s)

    def report(self) -> tuple[dict[str, float], dict[str, int]]:
        """For the other gateways: device seconds by client since the last call, and open sessions."""
        used, self._used = self._used, {}
        return used, {name: each.sessions for name, each in self._accounts.items() if each.sessions > 0}

    def _charge(self, client: str, seconds: float) -> None:
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

    def whole_in_s(self, client: str | None) -> float:
        """In how many seconds the client has its whole share again, if it uses nothing meanwhile."""
        if client is None or not self._device_s or client not in self._accounts:
            return 0.0
        return max(0.0, (self._device_s - self._account(client).left_s) * MINUTE_S / self._device_s)

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
