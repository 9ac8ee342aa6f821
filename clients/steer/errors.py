"""Errors of steering; each message is one line for people.

SteerError
├── Refused        the server rejected a control
└── SteerTimeout   a receipt did not come in time
"""

from __future__ import annotations

from clients.errors import ClientError
from clients.steer.messages import ControlReceipt


class SteerError(ClientError):
    """No server, no session, or no connection to it."""


class Refused(SteerError):
    """`receipt` has the code, and the invalid field if there is one."""

    def __init__(self, receipt: ControlReceipt) -> None:
        super().__init__(receipt.message or receipt.code or "the server refused it")
        self.receipt = receipt

    @property
    def code(self) -> str | None:
        return self.receipt.code


class SteerTimeout(SteerError):
    pass
