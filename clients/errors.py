"""Errors of the clients. Each message is one line for the user, without control characters.

ClientError
├── BadInput       an argument is wrong, or a file cannot be used; exit status 2
├── ViewError      there is no video, or the connection is lost
│   └── ViewRefused    the server refuses this viewer, and would refuse it again
├── RecordError    the video cannot be recorded
├── SteerError     a session cannot be steered (clients.steer.errors)
└── OperateError   a server does not do what its operator requests
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
