"""Whether gateways are reached where their `--advertise` says: otherwise they look well, and what others pass
on to them fails.

Each gateway tries its own address and that of the next one by name, in the way in which requests are passed
on, and whoever answers proves its name by the cluster's key. So two gateways try each address, however many
there are. One that only other hosts can reach may fail at its own gateway, which therefore takes its own try
for certain only if somebody else has answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from server.cluster.messages import GATEWAY_MEND
from server.cluster.peers import Peers
from server.http.edge.forwarding import Forwarding, Unanswered
from server.http.edge.vouching import HEADER, Passed, vouch
from server.keys import is_proof, proof
from server.log_format import escaped
from server.logs import about

log = logging.getLogger(__name__)

PATH = "/v1/gateway"  # for gateways only, and so in no contract
TICK_S, EVERY_S = 1.0, 10.0  # until an address was right, and afterwards
WITHIN_S, MOST_BYTES = 2.0, 4096
NOWHERE = "leads nowhere"
TRIES = 2  # an address that doesn't answer so often in a row is wrong
SETTLED_S = 20.0  # a fault that comes later makes a gateway unready no more: it has sessions by then


class Wrong(NamedTuple):
    """Why an address is wrong. `certain`: somebody else has answered there."""

    why: str
    certain: bool


class Identity:
    """Who this gateway is, for those who try its address."""

    def __init__(self, name: str, key: bytes) -> None:
        self.name, self.instance, self._key = name, secrets.token_hex(8), key

    def answer(self, query: bytes) -> dict[str, str]:
        """To a request for PATH with this query, which is random."""
        said = _text(self.name, self.instance, query)
        return {"gateway": self.name, "instance": self.instance, "proof": proof(self._key, said)}


async def tried(
    forwarding: Forwarding, url: str, name: str, key: bytes, instance: str | None = None
) -> Wrong | None:
    """Ask the gateway of this name, and perhaps of this instance, at its address. None: it has answered."""
    query = secrets.token_hex(16).encode()
    target = f"{PATH}?".encode() + query
    headers = {HEADER: vouch(key, Passed("unknown", "http"), "GET", target, time.time())}
    try:
        status, body = await forwarding.ask(url, target, headers, MOST_BYTES, WITHIN_S)
        told = json.loads(body)
    except TimeoutError:
        return Wrong(f"{url} {NOWHERE}: no answer within {WITHIN_S:g} s", False)
    except Unanswered as error:
        return Wrong(f"{url} {NOWHERE}: {error.__cause__ or error}", False)
    except (ValueError, RecursionError):
        status, told = 0, None
    if not isinstance(told, dict) or status != 200:
        why = told.get("message") if isinstance(told, dict) and status in (403, 503) else None
        fault = escaped(why) if isinstance(why, str) else "it is no gateway of this cluster"
        return Wrong(f"what answers at {url} is somebody else: {fault}", True)
    who, which = str(told.get("gateway"))[:16], str(told.get("instance"))[:32]
    if not is_proof(key, _text(who, which, query), str(told.get("proof"))):
        return Wrong(f"what answers at {url} is somebody else: it is no gateway of this cluster", True)
    if who != name:
        return Wrong(f"{url} leads to gateway {who}", True)
    if instance not in (None, which):
        return Wrong(f"{url} leads to another gateway that is named {who} too", True)
    return None


def _text(name: str, instance: str, query: bytes) -> bytes:
    return f"psistream gateway\0{name}\0{instance}\0".encode(errors="replace") + query


@dataclass
class _Address:
    url: str
    due_s: float = 0.0
    failed: int = 0  # in a row
    wrong: Wrong | None = None


class GatewayReach:
    """Tries addresses as long as `run` does, over connections of its own. `faults` has what is wrong, by the
    names of the gateways: of another one, or of this one."""

    def __init__(
        self,
        peers: Peers,
        own_url: str,
        identity: Identity,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._peers, self._own_url, self._identity = peers, own_url, identity
        self._forwarding, self._clock = Forwarding(), clock
        self._addresses: dict[str, _Address] = {}
        self._since_s, self._settled = clock(), False
        self._told: str | None = None

    async def run(self) -> None:
        """Until cancelled."""
        async with contextlib.aclosing(self._forwarding):
            while True:
                await self.look()
                await asyncio.sleep(TICK_S)

    async def look(self) -> None:
        """Try what is due."""
        own = self._peers.name
        others = {name: url for name, url in self._peers.others.items() if name not in self._peers.silent}
        wanted = {own: self._own_url}
        if others:
            following = min((name for name in others if name > own), default=min(others))
            wanted[following] = others[following]
        self._addresses = {
            name: known if (known := self._addresses.get(name)) and known.url == url else _Address(url)
            for name, url in wanted.items()
        }
        await self._forwarding.aclose(but=wanted.values())
        await asyncio.gather(*(self._try(name, each) for name, each in self._addresses.items()))
        fault = self.fault
        if fault != self._told:
            if fault is None:
                log.warning("this gateway is reached where --advertise says")
            else:
                log.error("other gateways may not reach this one: %s; %s", fault, GATEWAY_MEND)
            self._told = fault
        if self._certain is None and self._clock() - self._since_s >= SETTLED_S:
            self._settled = True

    async def _try(self, name: str, address: _Address) -> None:
        if self._clock() < address.due_s:
            return
        instance = self._identity.instance if name == self._peers.name else None
        wrong = await tried(self._forwarding, address.url, name, self._peers.key, instance)
        address.due_s = self._clock() + (EVERY_S if wrong is None else TICK_S)
        address.failed = 0 if wrong is None else address.failed + 1
        before = address.wrong
        if wrong is None or wrong.certain or address.failed >= TRIES:
            address.wrong = wrong
        if name != self._peers.name and address.wrong is not None and before is None:
            log.error(
                "gateway %s cannot be reached: %s; %s",
                name,
                address.wrong.why,
                GATEWAY_MEND,
                extra=about(name),
            )

    # ---- what came of it ----

    @property
    def faults(self) -> Mapping[str, str]:
        """For the directory. Its own address may be one that only other hosts can reach: they say so."""
        own, alone = self._peers.name, not self._peers.others
        found = {name: each.wrong for name, each in self._addresses.items() if each.wrong is not None}
        return {name: each.why for name, each in found.items() if name != own or alone or each.certain}

    @property
    def _certain(self) -> str | None:
        """Why this gateway is not reached, if somebody else has answered: here, or at another gateway."""
        own = self._addresses.get(self._peers.name)
        if own is not None and own.wrong is not None and own.wrong.certain:
            return own.wrong.why
        return next((each for each in self._complaints if NOWHERE not in each), None)

    @property
    def _complaints(self) -> list[str]:
        return [f"{name} says: {why}" for name, why in self._peers.complaints.items()]

    @property
    def fault(self) -> str | None:
        """Why others may not reach this gateway; None if nothing is known."""
        own = self._addresses.get(self._peers.name)
        mine = [own.wrong.why] if own is not None and own.wrong is not None else []
        return self._certain or next(iter([*self._complaints, *mine]), None)

    @property
    def unready(self) -> str | None:
        """The same, if it is reason enough to send this gateway no clients: there are other gateways, it is
        certain, and has been so since the start. Later nobody at all would reach the sessions that it has. An
        address that leads nowhere may do so just because this gateway is not ready, as behind a service of
        Kubernetes."""
        return self._certain if self._peers.others and not self._settled else None
