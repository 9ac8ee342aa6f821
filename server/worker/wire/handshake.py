"""How a gateway and a worker meet: versions, and a proof of the key from both, before anything else.

    gateway → Hello      wire, version, nonce
    worker  → Challenge  wire, version, nonce, proof
    gateway → Proof      proof
    worker  → Welcome    what it runs, with the model's fingerprint

A proof is an HMAC (SHA-256) of both nonces under the key, other for each side, so none can be sent back or
used again. It does not encrypt or sign what follows: TLS does. Pure: no sockets and no clocks.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from engine.errors import Forbidden, PsistreamError, Unavailable
from server.version import VERSION
from server.worker.wire.schema import WIRE, Challenge, Hello, Proof

NONCE_BYTES = 32
WRONG_KEY = "the worker has another key: give both the same --key-file"


class WrongPeer(Unavailable):
    """The peer is not a worker, or not one that this program can talk to."""

    code = "wrong_peer"


def hello(gateway: str = "") -> Hello:
    return Hello(WIRE, VERSION, secrets.token_bytes(NONCE_BYTES), gateway)


def challenge(key: bytes, heard: object) -> tuple[Challenge, bytes]:
    """The worker's answer to the first message, and the proof that must come next. Raises PsistreamError."""
    if not isinstance(heard, Hello) or len(heard.nonce) != NONCE_BYTES:
        raise WrongPeer("this port is for psistream's gateways")
    _check_wire(heard.wire, heard.program, "gateway")
    nonce = secrets.token_bytes(NONCE_BYTES)
    answer = Challenge(WIRE, VERSION, nonce, _proof(key, b"worker", heard.nonce, nonce))
    return answer, _proof(key, b"gateway", heard.nonce, nonce)


def prove(key: bytes, said: Hello, heard: object) -> Proof:
    """The gateway's answer to the challenge. Raises PsistreamError."""
    if not isinstance(heard, Challenge) or len(heard.nonce) != NONCE_BYTES:
        raise WrongPeer("what answered is no worker of psistream")
    _check_wire(heard.wire, heard.program, "worker")
    if not hmac.compare_digest(heard.proof, _proof(key, b"worker", said.nonce, heard.nonce)):
        raise Forbidden(WRONG_KEY)
    return Proof(_proof(key, b"gateway", said.nonce, heard.nonce))


def check(expected: bytes, heard: object) -> None:
    """Raises Forbidden unless it is the proof that was expected."""
    if not isinstance(heard, Proof) or not hmac.compare_digest(heard.proof, expected):
        raise Forbidden("the gateway has another key: give both the same --key-file")


def _check_wire(wire: int, program: str, who: str) -> None:
    if wire != WIRE:
        text = "".join(c if c.isprintable() else "?" for c in program[:40])
        raise WrongPeer(f"the {who} (psistream {text}) speaks version {wire} of the wire, this one {WIRE}")


def _proof(key: bytes, who: bytes, first: bytes, second: bytes) -> bytes:
    return hmac.new(key, b"psistream worker wire\0" + who + b"\0" + first + second, hashlib.sha256).digest()


def refusal(error: PsistreamError) -> tuple[str, str]:
    return error.code, error.message
