"""Errors of the clients. Each message is one line for the user, without control characters.

The exit status is 2 if the command was called wrongly: with a wrong argument, or with one that the server
refuses for good, such as a session that it does not have (`called_wrongly`). Otherwise it is 1.

Wrong arguments, and files that cannot be used, are an InvalidInput (engine.errors).

ClientError
├── ViewError      there is no video, or the connection is lost
│   └── ViewRefused    the server refuses this viewer, and would refuse it again
├── RecordError    the video cannot be recorded
├── SteerError     a session cannot be steered (clients.steer.errors)
└── OperateError   a server does not do what its operator requests
"""

from clients.text import printable
from engine.errors import ReportedError


class ClientError(ReportedError):
    """Base of all errors of the clients."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class ViewError(ClientError):
    pass


class ViewRefused(ViewError):
    pass


class RecordError(ClientError):
    pass


class OperateError(ClientError):
    pass
