"""Whether what a member says is what members say: what the types leave open. The directory's port is a door,
and what a member says reaches all the others."""

from __future__ import annotations

import math
import re
from urllib.parse import urlsplit

from engine.errors import InvalidInput
from server.cluster.messages import (
    GATEWAY_NAME,
    WORKER_NAME,
    JoinGateway,
    JoinWorker,
    Report,
    WorkerReport,
)
from server.worker.epochs import CLOSED
from server.worker.remote import WorkerAddress
from server.worker.wire.expected import Expected

URL_CHARS, HOST_CHARS, SESSION_CHARS, CLIENT_CHARS = 128, 64, 64, 96
MAX_LABELS, LABEL_CHARS = 8, 32
MAX_SESSIONS = 1_000_000
MAX_FAULTS, FAULT_CHARS = 8, 300
PLAIN = re.compile("[!-~]+")  # what each part of a URL may have

_EXPECTED = Expected("member sends")
_require, _text = _EXPECTED.require, _EXPECTED.text


def check_join(message: JoinWorker | JoinGateway) -> None:
    """Raises InvalidInput."""
    _text(message.url, URL_CHARS, "url")
    if len(message.instance) > LABEL_CHARS:
        raise InvalidInput("instance is too long", field="instance")
    if isinstance(message, JoinGateway):
        check_gateway_name(message.name)
        check_gateway_url(message.url)
        for host in message.drained:
            check_host(host)
        for worker in message.drained_workers:
            check_worker_name(worker)
        return
    check_worker_name(message.name)
    WorkerAddress.parse(message.url, "url")
    check_host(message.host)
    if len(message.labels) > MAX_LABELS:
        raise InvalidInput(f"a worker may have {MAX_LABELS} labels", field="labels")
    for text in (*message.labels, *message.labels.values()):
        _text(text, LABEL_CHARS, "labels")


def check_gateway_name(name: str) -> None:
    """Raises InvalidInput."""
    if not GATEWAY_NAME.fullmatch(name):
        raise InvalidInput(
            f"a gateway's --name starts the ids of its sessions, which {name!r:.40} cannot: give a letter "
            "and up to 15 letters and digits, in lower case, other than main, which is a session itself",
            field="name",
        )


def check_worker_name(name: str) -> None:
    """Raises InvalidInput."""
    if not WORKER_NAME.fullmatch(name):
        raise InvalidInput(
            "a worker's --name may have up to 63 letters, digits, dots and dashes, in lower case, and begins "
            f"and ends with a letter or digit, not {name!r:.80}",
            field="name",
        )


def check_gateway_url(url: str) -> None:
    """Raises InvalidInput."""
    try:
        parts = urlsplit(url if PLAIN.fullmatch(url) else "")
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known or parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidInput(
            f"--advertise must be where other gateways reach this one, such as http://10.0.0.5:8080, "
            f"not {url!r:.80}",
            field="advertise",
        )


def check_host(host: str) -> None:
    """Raises InvalidInput."""
    _text(host, HOST_CHARS, "host")


def check_report(report: Report) -> None:
    """Raises InvalidInput."""
    _require(0 <= report.sessions <= MAX_SESSIONS, "sessions")
    if isinstance(report, WorkerReport):
        capacity = report.capacity
        _require(
            capacity is None or (0 <= capacity.sessions <= MAX_SESSIONS and capacity.open >= 0), "capacity"
        )
        return
    for session in report.adopted:
        _text(session, SESSION_CHARS, "adopted")
    for session, copy in report.copies.items():
        _text(session, SESSION_CHARS, "copies")
        _require(0 <= copy.epoch <= CLOSED and len(copy.instance) <= SESSION_CHARS, "copies")
    _require(len(report.faults) <= MAX_FAULTS, "faults")
    for text in (*report.faults, *report.faults.values()):
        _text(text, FAULT_CHARS, "faults")
    for client in (*report.used, *report.open):
        _text(client, CLIENT_CHARS, "client")
    _require(all(math.isfinite(used_s) and 0 <= used_s < 1e6 for used_s in report.used.values()), "used")
    _require(all(0 <= count <= MAX_SESSIONS for count in report.open.values()), "open")
