"""What another gateway must know of a session to go on with it: who may use it, who pays, what was answered.

It holds hashes of tokens, not tokens. Times in it are wall-clock times, since the reader may be on another
host. Whoever reads one trusts it with nothing: what is malformed or of another version is left out.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from typing import Any

from engine.errors import InvalidInput
from engine.types import Receipt
from engine.wire.requests import MAX_LINK_S
from engine.wire.strict_json import load_object
from server.access.links import MOST, ShareLink
from server.access.tokens import HASH
from server.cluster.checks import CLIENT_CHARS
from server.gateway.budget import Budgets
from server.gateway.session import GatewaySession
from server.worker.hosting.leases import RECORD_BYTES

VERSION = 1
RECEIPTS = 64  # the last ones
MAX_TEXT = 256
SURROGATE = re.compile("[\ud800-\udfff]")  # cannot be encoded
SHARE_STEP_S = 5.0  # resolution of the share's end, so that a record doesn't change all the time


@dataclass(frozen=True)
class Record:
    """`hashes` are those of the tokens for steering and watching; None: there are none, or they are not
    known. `share_back_at` is when the client's share of the device is whole again. A link's `ends_s` and
    `share_back_at` are Unix times."""

    hashes: tuple[str, str] | None = None
    client: str | None = None
    share_back_at: float = 0.0
    links: tuple[ShareLink, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    lost_frames: tuple[int, ...] = ()

    def apply(self, session: GatewaySession, wall_s: float, now_s: float) -> None:
        """Give the session its links, receipts and lost frames. It was entered with hashes and client."""
        for link in self.links:
            if wall_s < link.ends_s <= wall_s + MAX_LINK_S + 1:
                session.links.add(replace(link, ends_s=now_s + link.ends_s - wall_s))
        for receipt in self.receipts:
            session.remember(replace(receipt, session=session.id))
        session.lost_frames = self.lost_frames

    def charge(self, budgets: Budgets, wall_s: float) -> None:
        """Count the session for its client, which has used its share as much as the record says."""
        budgets.continued(self.client, self.share_back_at - wall_s)


def record_of(session: GatewaySession, budgets: Budgets, wall_s: float, now_s: float) -> bytes:
    """At most 64 KiB: of its last final receipts as many as fit. A control that was only received is left
    out: it may not have reached the worker, so it must be accepted again. `wall_s` is the Unix time."""
    back_s = budgets.whole_in_s(session.client)
    about = {
        "version": VERSION,
        "token_hash": session.token_hash,
        "view_token_hash": session.view_token_hash,
        "client": session.client,
        "lost_frames": session.lost_frames,
        "share_back_at": math.ceil((wall_s + back_s) / SHARE_STEP_S) * SHARE_STEP_S if back_s else 0.0,
        "links": [
            [link.id, link.role, link.token_hash, round(wall_s + link.ends_s - now_s)]
            for link in session.links.all(now_s)[-MOST:]
        ],
    }
    left = RECORD_BYTES - len(_json(about)) - 32
    receipts: list[bytes] = []
    final = [receipt for receipt in session.answers.values() if receipt.status != "received"]
    for r in reversed(final[-RECEIPTS:]):
        row = _json([r.id, r.status, r.segment, r.frame, r.code, (r.message or "")[:MAX_TEXT]])
        left -= len(row) + 1
        if left < 0:
            break
        receipts.append(row)
    return _json(about)[:-1] + b',"receipts":[' + b",".join(reversed(receipts)) + b"]}"


def read_record(record: bytes) -> Record:
    """An empty one if these are not the bytes of a record of this version."""
    try:
        found = load_object(record, RECORD_BYTES)
    except InvalidInput:
        return Record()
    if found.get("version") != VERSION:
        return Record()
    hashes = _hash(found.get("token_hash")), _hash(found.get("view_token_hash"))
    return Record(
        (hashes[0], hashes[1]) if hashes[0] and hashes[1] and hashes[0] != hashes[1] else None,
        _client(found.get("client")),
        _number(found.get("share_back_at")) or 0.0,
        tuple(link for row in _rows(found.get("links"), MOST) if (link := _link(row))),
        tuple(receipt for row in _rows(found.get("receipts"), RECEIPTS) if (receipt := _receipt(row))),
        _gap(found.get("lost_frames")),
    )


def _gap(value: Any) -> tuple[int, ...]:
    match value:
        case [first, after] if _number(first) is not None and _number(after) is not None:
            return int(first), int(after)
    return ()


def _link(row: Any) -> ShareLink | None:
    match row:
        case [str(name), ("driver" | "viewer") as role, token_hash, ends_at]:
            given, ends_s = _hash(token_hash), _number(ends_at)
            if given and ends_s and _text(name):
                return ShareLink(name, role, given, ends_s)
    return None


def _receipt(row: Any) -> Receipt | None:
    match row:
        case [str(name), ("applied" | "rejected") as status, segment, frame, code, message]:
            numbers = [int(n) if _number(n) is not None else None for n in (segment, frame)]
            if _text(name):
                return Receipt("", name, status, numbers[0], numbers[1], _text(code), _text(message))
    return None


def _rows(value: Any, most: int) -> list[Any]:
    return value[-most:] if isinstance(value, list) else []


def _hash(value: Any) -> str | None:
    return value if isinstance(value, str) and HASH.fullmatch(value) else None


def _text(value: Any) -> str | None:
    fine = isinstance(value, str) and 0 < len(value) <= MAX_TEXT and not SURROGATE.search(value)
    return value if fine else None


def _client(value: Any) -> str | None:
    """One whose name the directory takes, or every report of this gateway would be refused."""
    name = _text(value)
    return name if name and len(name) <= CLIENT_CHARS and name.isprintable() else None


def _number(value: Any) -> float | None:
    fine = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1 << 53
    return value if fine else None


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
