"""Steer a psistream session from Python: a game, a bot, a script.

    from clients.steer import connect

    async with connect("http://localhost:8080") as session:
        await session.prompt("a red fox in the snow").applied()

`connect` takes an HTTP or an MQTT address, or uses a WebRTC data channel. It reconnects by itself, and
resends controls that got no receipt, or that a restored server has lost; this never causes a second effect.
docs/game.md has a whole game. It imports nothing of the engine or the server, and speaks the wire protocol of
docs/protocol.md.
"""

from __future__ import annotations

from clients.steer.errors import Refused, SteerError, SteerTimeout
from clients.steer.messages import ControlReceipt, State
from clients.steer.session import Sent, SteeredSession, connect

__all__ = [
    "ControlReceipt",
    "Refused",
    "Sent",
    "State",
    "SteerError",
    "SteerTimeout",
    "SteeredSession",
    "connect",
]
