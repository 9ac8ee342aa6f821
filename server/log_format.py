"""Formats log entries as text for people or as JSON Lines for collectors.

Secrets are removed. Control characters are escaped, since a client could use them to forge an entry or to
control a terminal.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

from server.logs import FloodFilter

QUIET = ("aiortc", "aioice", "amqtt", "aiomqtt", "uvicorn", "transitions", "libav")
SECRETS = (  # group 1 precedes a secret in a URL or a header that a message may contain
    re.compile(r"(?i)(\bbearer\s+)[\w.~+/=-]{6,}"),
    re.compile(r"(?i)([#?&](?:token|key|password)=)[^&\s\"']+"),
    re.compile(r"(\b[a-z][a-z0-9+.-]{1,20}://[^/\s:@]{1,64}:)[^@\s/]+(?=@)"),
    re.compile(r"(\b(?:turns?):[^/\s:@]{1,64}:)[^@\s]+(?=@)"),
)
SESSION = re.compile(r"\bsession ([A-Za-z0-9][A-Za-z0-9_.-]{0,63})\b")


def without_secrets(text: str) -> str:
    for pattern in SECRETS:
        text = pattern.sub(r"\1…", text)
    return text


def escaped(text: str) -> str:
    """The text with control and other unprintable characters written as \\x1b, \\n or \\u202e."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class TextFormatter(logging.Formatter):
    """Text for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = escaped(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        lines = super().formatException(ei).split("\n")
        # indented, so that no line looks like an entry
        return "\n".join(f"  {escaped(line)}" for line in lines)


class JsonFormatter(logging.Formatter):
    """One object per line: time (UTC, RFC 3339), level, logger, message and pid; also the session and a
    traceback, if there are any."""

    def format(self, record: logging.LogRecord) -> str:
        message = without_secrets(escaped(record.getMessage()))
        entry: dict[str, str | int] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
            "pid": record.process or 0,
        }
        session = getattr(record, "session", None) or SESSION.search(message)
        if session is not None:
            entry["session"] = session if isinstance(session, str) else session[1]
        if record.exc_info:
            lines = self.formatException(record.exc_info).split("\n")
            entry["traceback"] = without_secrets("\n".join(map(escaped, lines)))
        return json.dumps(entry, ensure_ascii=False)


def set_up(kind: str, level: str) -> None:
    """Log everything of this process to standard error, including warnings of Python and of libraries. In a
    process that has a log already, as tests have, nothing changes."""
    if logging.getLogger().handlers:
        return
    handler = logging.StreamHandler()
    handler.addFilter(FloodFilter())
    handler.setFormatter(formatter(kind))
    logging.basicConfig(level=level, handlers=[handler])
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a log on a full disk must not stop the server
    if level not in ("DEBUG", "INFO"):
        for name in QUIET:
            logging.getLogger(name).setLevel("ERROR")


def formatter(kind: str) -> logging.Formatter:
    """The formatter that --log-format names."""
    return JsonFormatter() if kind == "json" else TextFormatter()
