"""Shares of the places for viewers, so that no token, session or address takes all of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from engine.errors import Full
from server.webrtc.viewer import Seat

SMALL = 8  # too few places to be divided
OF_TOKEN, OF_SESSION, OF_ADDRESS = 3 / 4, 7 / 8, 1 / 4  # of all places; of an address on this machine, all


class OverShare(Full):
    """This client has used up its share of the places."""

    code = "over_share"


def check_shares(taken: Sequence[Seat], seat: Seat, places: int) -> None:
    """Check whether one more viewer is allowed. Raises Full, OverShare."""
    if len(taken) >= places:
        raise Full(f"all {places} places for viewers are taken: try again later")
    if places < SMALL:
        return
    for what, own, share in (
        ("token", seat.token and sum(s.token == seat.token for s in taken), OF_TOKEN),
        ("session", sum(s.session == seat.session for s in taken), OF_SESSION),
        ("address", not _here(seat.client) and sum(s.client == seat.client for s in taken), OF_ADDRESS),
    ):
        if own and own >= int(share * places):
            raise OverShare(
                f"this {what} has {own} viewers, which is its share: close one, or try again later"
            )


def _here(client: str) -> bool:
    """On this machine, or unknown: perhaps a proxy that does not forward its clients' addresses."""
    try:
        return ip_address(client).is_loopback
    except ValueError:
        return not client
