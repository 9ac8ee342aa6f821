"""Tokens of sessions and links. The server knows them by their hashes; only whoever got a token has it.

A token has 192 random bits, so its plain SHA-256 cannot be reversed. Everything looks tokens up by hash, so
the time that takes reveals nothing of a token.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import Literal

Role = Literal["owner", "driver", "viewer"]  # may copy, share and close as well; may steer; may only watch
HASH = re.compile(r"[0-9a-f]{64}")


def unguessable(size: int) -> str:
    """A name or token of `size` random bytes, URL-safe. It starts with a letter or a digit, so that a command
    line does not take it for an option."""
    while not (name := secrets.token_urlsafe(size))[0].isalnum():
        pass
    return name


def hash_of(token: str) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def same_hash(given: str, wanted: str | None) -> bool:
    """Whether two hashes are equal, in constant time."""
    return wanted is not None and hmac.compare_digest(given, wanted)
