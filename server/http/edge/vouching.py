"""How a gateway vouches for the client of a request that it passes on to another gateway.

The header names the client's address and the scheme it used, with an HMAC under the cluster's key over these,
the method, the path and the time. While the key is being replaced there are several: a gateway vouches with
the first and believes all. A request that has the header is passed on no further. A cluster
without a key, which only loopback allows, believes every program of the machine. Pure: no clocks.
"""

from __future__ import annotations

from typing import NamedTuple

from engine.errors import Forbidden, Unavailable
from server.keys import is_proof, proof

HEADER = "x-psistream-passed"
PASSED = "psistream.passed"  # key of the scope of a request that another gateway has vouched for
WINDOW_S = 60.0  # how much the clocks of two gateways may differ
LIMIT = 512


class Passed(NamedTuple):
    """The client as the gateway that it asked has seen it."""

    client: str
    scheme: str


class ClocksDiffer(Unavailable):
    """Of two gateways. That is no fault of the client's, and another gateway may do."""


def vouch(key: bytes, passed: Passed, method: str, target: bytes, now_s: float) -> str:
    """The header's value. `target` is the path with its query, `now_s` the time of day in seconds."""
    said = f"{int(now_s)} {passed.scheme} {passed.client.replace(' ', '')}"
    return f"{said} {proof(key, _text(said, method, target))}"


def vouched(key: bytes, header: str, method: str, target: bytes, now_s: float) -> Passed:
    """Raises Forbidden unless a gateway of the same cluster has said so, and ClocksDiffer if that wasn't just
    now."""
    said, _, given = header[:LIMIT].rpartition(" ")
    parts, known = said.split(" "), is_proof(key, _text(said, method, target), given)
    if not (len(parts) == 3 and known):
        raise Forbidden(f"{HEADER} is for the gateways of one cluster: give them the same --join-key-file")
    apart_s = abs(now_s - int(parts[0])) if parts[0].isdecimal() else float("inf")
    if apart_s > WINDOW_S:
        raise ClocksDiffer(
            f"the clocks of two gateways differ by {apart_s:.0f} s, where {WINDOW_S:.0f} s are allowed: "
            "set them, best by NTP"
        )
    return Passed(parts[2], parts[1])


def _text(said: str, method: str, target: bytes) -> bytes:
    return b"psistream passed request\0" + f"{said}\0{method}\0".encode() + target
