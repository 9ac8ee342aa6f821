"""Who may have how many of the places for viewers: no token, session or address takes all of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from engine.errors import Full
from server.webrtc.viewer import Seat

SMALL = 8  # places that are too few to be shared
OF_TOKEN, OF_SESSION, OF_ADDRESS = 3 / 4, 7 / 8, 1 / 4  # of all places; of an address on this machine, all


class OverShare(Full):
    """This client has its share of the places."""

    code = "over_share"


def check_shares(taken: Sequence[Seat], seat: Seat, places: int) -> None:
    """Whether one more viewer may come in. Raises Full, OverShare."""
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
    """Of this machine, or unknown: maybe a proxy that says nothing of its clients."""
    try:
        return ip_address(client).is_loopback
    except ValueError:
        return not client
