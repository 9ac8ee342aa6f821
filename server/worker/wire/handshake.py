"""How two processes of psistream meet: versions, and a proof of the key from both, before anything else.

    visitor → Hello      wire, version, nonce
    host    → Challenge  wire, version, nonce, proof
    visitor → Proof      proof
    host    → what it says first, such as a worker's Welcome

Each side may have several keys (`keys_of`), so that one can be replaced while everything runs: it proves the
first and accepts them all. So two sides meet if each has the other's first key.

A proof is an HMAC (SHA-256) of both nonces under the key, other for each side and each kind of door, so none
can be sent back, used again or used elsewhere. It does not encrypt or sign what follows: TLS does. Pure: no
sockets and no clocks.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import NamedTuple

from engine.errors import Forbidden, Unavailable
from server.keys import keys_of
from server.version import VERSION
from server.worker.wire.schema import WIRE, Challenge, Hello, Proof

NONCE_BYTES = 32


class Door(NamedTuple):
    """What kind of port this is: who listens there and who visits it, by name and for the proof, and the
    version of what they say."""

    host: str
    visitor: str
    wire: int
    key_option: str = "--key-file"


WORKER_DOOR = Door("worker", "gateway", WIRE, "--key-file (of serve: --worker-key-file)")


class WrongPeer(Unavailable):
    """The peer is not a worker, or not one that this program can talk to."""

    code = "wrong_peer"


def hello(gateway: str = "", door: Door = WORKER_DOOR) -> Hello:
    return Hello(door.wire, VERSION, secrets.token_bytes(NONCE_BYTES), gateway)


def challenge(key: bytes, heard: object, door: Door = WORKER_DOOR) -> tuple[Challenge, tuple[bytes, ...]]:
    """The host's answer to the first message, and the proofs of which one must come next. Raises
    PsistreamError."""
    if not isinstance(heard, Hello) or len(heard.nonce) != NONCE_BYTES:
        raise WrongPeer(f"this port is for psistream's {door.visitor}s")
    _check_wire(door, heard.wire, heard.program, door.visitor)
    nonce = secrets.token_bytes(NONCE_BYTES)
    keys = keys_of(key)
    answer = Challenge(door.wire, VERSION, nonce, _proof(keys[0], door, door.host, heard.nonce, nonce))
    return answer, tuple(_proof(each, door, door.visitor, heard.nonce, nonce) for each in keys)


def prove(key: bytes, said: Hello, heard: object, door: Door = WORKER_DOOR) -> Proof:
    """The visitor's answer to the challenge. Raises PsistreamError."""
    if not isinstance(heard, Challenge) or len(heard.nonce) != NONCE_BYTES:
        raise WrongPeer(f"what answered is no {door.host} of psistream")
    _check_wire(door, heard.wire, heard.program, door.host)
    keys, proof = keys_of(key), heard.proof
    if not _is_one(proof, [_proof(each, door, door.host, said.nonce, heard.nonce) for each in keys]):
        raise Forbidden(
            f"the {door.host} has another key, or it is no {door.host}: give both the same {door.key_option}"
        )
    return Proof(_proof(keys[0], door, door.visitor, said.nonce, heard.nonce))


def check(expected: Iterable[bytes], heard: object, door: Door = WORKER_DOOR) -> None:
    """Raises Forbidden unless it is one of the proofs that were expected."""
    if not isinstance(heard, Proof) or not _is_one(heard.proof, expected):
        raise Forbidden(f"the {door.visitor} has another key: give both the same {door.key_option}")


def _check_wire(door: Door, wire: int, program: str, who: str) -> None:
    if wire != door.wire:
        other = door.host if who == door.visitor else door.visitor
        text = "".join(c if c.isprintable() else "?" for c in program[:40])
        raise WrongPeer(
            f"the {who} (psistream {text}) speaks version {wire} of the wire, the {other} "
            f"version {door.wire}: install the same psistream for both"
        )


def _is_one(proof: bytes, expected: Iterable[bytes]) -> bool:
    return any(hmac.compare_digest(proof, each) for each in expected)


def _proof(key: bytes, door: Door, who: str, first: bytes, second: bytes) -> bytes:
    purpose = f"psistream {door.host} wire\0{who}\0".encode()
    return hmac.new(key, purpose + first + second, hashlib.sha256).digest()
