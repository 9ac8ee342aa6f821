"""Errors of the clients. Each message is one line for the user, without control characters.

ClientError
├── BadInput       an argument is wrong, or a file cannot be used; exit status 2
├── ViewError      there is no video, or the connection is lost
│   └── Refused    the server won't have this viewer, and would not if asked again
├── RecordError    the video cannot be recorded
├── SteerError     there is no way to a session (clients.steer.errors)
└── OperateError   a server does not do what its operator asks for
"""

from clients.text import printable


class ClientError(Exception):
    """Base of all errors of the clients."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class BadInput(ClientError):
    pass


class ViewError(ClientError):
    pass


class ViewRefused(ViewError):
    pass


class RecordError(ClientError):
    pass


class OperateError(ClientError):
    pass
