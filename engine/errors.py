"""Every error that psistream raises on purpose. `code` is stable and goes over the wire; `message` is for
people.

ReportedError           a command prints its message as one line
├── ClientError         the errors of the clients (clients.errors)
└── PsistreamError
    ├── InvalidInput        a message, flag, file or field is wrong; names the field and the fix
    ├── UnknownSession      no session has this id
    ├── Full                no capacity for another session; says when to try again
    ├── Forbidden           the caller may not do this
    ├── ModelFilesError     weights or graphs are missing, corrupt or of another version
    ├── BackendError        the device or the inference library failed while running
    │   └── OutOfMemory     a call needs too much memory; a smaller batch may succeed
    └── Unavailable         a required part (port, broker, worker) is not available
"""


class ReportedError(Exception):
    """A command reports it as one line, without a traceback, and exits with status 1, or with 2 if it was
    `called_wrongly`."""

    called_wrongly = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class PsistreamError(ReportedError):
    """Base of all errors here. `code` is stable; `field` names the field at fault, if any. With
    `retry_after_s` nothing was done or remembered, and the same may be tried again after this time."""

    code = "error"
    retry_after_s: int | None = None

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class InvalidInput(PsistreamError):
    code = "invalid"
    called_wrongly = True


class UnknownSession(PsistreamError):
    code = "unknown_session"


class Full(PsistreamError):
    code = "full"
    retry_after_s: int

    def __init__(self, message: str, *, retry_after_s: int = 5) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Forbidden(PsistreamError):
    code = "forbidden"


class ModelFilesError(PsistreamError):
    code = "model_files"
    called_wrongly = True


class BackendError(PsistreamError):
    code = "backend"


class OutOfMemory(BackendError):
    code = "out_of_memory"


class Unavailable(PsistreamError):
    code = "unavailable"
    retry_after_s = 2
