"""API keys: the strength that they need, and a file of named keys that is read again when it changes."""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import re
import ssl
import string
import time
from collections.abc import Callable
from pathlib import Path

from engine.errors import InvalidInput
from engine.text_files import read_text
from server.access.tokens import hash_of

log = logging.getLogger(__name__)

MIN_BITS = 128
REPEAT = (
    10  # a repeated substring of this length counts as one character; one random key in a billion has any
)
MAKE_ONE = "make one with: openssl rand -hex 16"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
SINGLE = "api-key"  # the name of the key that --api-key sets
MAX_FILE_BYTES = 1 << 20
MAX_SECRETS = 8  # in a file of the cluster: each proof may be tried with all of them
CHECK_EVERY_S = 1.0
CLASSES = (string.ascii_lowercase, string.ascii_uppercase, string.digits)
BASE64 = 64
OTHERS = 33  # other printable ASCII characters


def key_bits(key: str) -> float:
    """An upper bound of the key's entropy in bits, from its length and its kinds of characters. A key made of
    dictionary words has less, which cannot be detected here."""
    plain = key.replace("-", "")
    if set(plain) <= set(string.digits):
        kinds = 10
    elif set(plain) <= set("0123456789abcdef") or set(plain) <= set("0123456789ABCDEF"):
        kinds = 16
    else:
        plain = key
        kinds = sum(len(each) for each in CLASSES if set(key) & set(each))
        kinds += OTHERS if set(key) - set("".join(CLASSES)) else 0
        if set(key) & set(CLASSES[0]) and set(key) & set(CLASSES[1]):
            kinds = max(kinds, BASE64)  # a short key may happen to contain no digit
    return _new_characters(plain) * math.log2(max(1, kinds))


def _new_characters(key: str) -> int:
    """The key's length, in which each repeated substring counts as one character."""
    count = at = 0
    while at < len(key):
        length = 1
        while at + length < len(key) and key[at : at + length + 1] in key[: at + length]:
            length += 1
        at += length if length >= REPEAT else 1
        count += 1
    return count


def check_key(key: str, what: str) -> str:
    """Return the key if it is strong enough. `what` names it in messages, which never contain the key itself.
    Raises InvalidInput."""
    if key_bits(key) < MIN_BITS:
        raise InvalidInput(
            f"{what} is too easy to guess: it needs {MIN_BITS} bits, such as 32 hexadecimal digits or 22 "
            f"random letters and digits; {MAKE_ONE}",
            field="api_key",
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidInput(f"{what} may contain only ASCII letters, digits and punctuation", field="api_key")
    return key


def read_keys(path: Path) -> dict[str, str]:
    """Read a key file. Each line has a name and a key; lines that start with # are comments. Returns the
    names by key. Raises InvalidInput."""
    found: dict[str, str] = {}
    for number, line in enumerate(read_text(path, "--api-keys", most=MAX_FILE_BYTES).split("\n"), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        where = f"{path}, line {number}"
        if len(words) != 2 or not NAME.fullmatch(words[0]):
            raise InvalidInput(
                f"{where}: write a name and its key, separated by a space, such as: alice 3f9c…",
                field="api_keys",
            )
        name, key = words
        check_key(key, f"{where}: the key")
        if key in found or name in found.values():
            raise InvalidInput(f"{where}: this name or key occurs twice", field="api_keys")
        found[key] = name
    if not found:
        raise InvalidInput(f"{path} contains no key: write a name and its key; {MAKE_ONE}", field="api_keys")
    return found


def read_secret(path: Path, what: str) -> bytes:
    """The keys in a file that the parts of a cluster share, one a line, as `keys_of` takes them apart. `what`
    is the option that names the file. Raises InvalidInput, which names lines and never shows a key."""
    found: dict[str, int] = {}  # the line of each key
    for number, line in enumerate(read_text(path, what, most=MAX_FILE_BYTES).split("\n"), 1):
        key = line.strip()
        if not key or key.startswith("#"):
            continue
        where = f"{what}: {path}, line {number}"
        try:
            check_key(key, f"{where}: the key")
        except InvalidInput as error:
            raise InvalidInput(error.message, field="key_file") from None
        if key in found:
            raise InvalidInput(f"{where}: this is the key of line {found[key]} again", field="key_file")
        found[key] = number
    if not found:
        raise InvalidInput(f"{what}: {path} contains no key: write one a line; {MAKE_ONE}", field="key_file")
    if len(found) > MAX_SECRETS:
        raise InvalidInput(f"{what}: {path} may have {MAX_SECRETS} keys, not {len(found)}", field="key_file")
    if (mode := _state_of(path)) and mode[0] & 0o077:
        log.warning("%s can be read by other users of this machine: chmod 600 it", path)
    return "\n".join(found).encode()


def keys_of(secret: bytes) -> list[bytes]:
    """The keys that `read_secret` has found: one proves with the first and accepts all. A cluster without a
    key, which only loopback allows, has the empty one."""
    return secret.split(b"\n")


def proof(secret: bytes, text: bytes) -> str:
    """That who has written this text has the first of these keys."""
    return _proof(keys_of(secret)[0], text)


def is_proof(secret: bytes, text: bytes, given: str) -> bool:
    """Whether who has written this text has any of these keys."""
    told = given.encode(errors="replace")
    return any(hmac.compare_digest(told, _proof(key, text).encode()) for key in keys_of(secret))


def _proof(key: bytes, text: bytes) -> str:
    return hmac.new(key, text, hashlib.sha256).hexdigest()


class KeyRing:
    """The keys of a server: the single one of --api-key and those of a file. The file is checked for changes
    at most once a second. If it cannot be read again, the keys stay as they were. Only the constructor raises
    InvalidInput."""

    def __init__(
        self, single: str | None, file: Path | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._single, self._file, self._clock = single, file, clock
        self._names: dict[str, str] = {}  # by hash, so that the look-up's timing reveals nothing of a key
        self._state: tuple[int, ...] = ()
        self._checked_s = clock()
        if file is not None:
            self._state = _state_of(file)
            if self._state and self._state[0] & 0o077:
                log.warning("%s can be read by other users of this machine: chmod 600 it", file)
            self._take(read_keys(file))
        else:
            self._take({})

    def __bool__(self) -> bool:
        return bool(self._names)

    @property
    def has_file(self) -> bool:
        return self._file is not None

    def name_of(self, key: str) -> str | None:
        """The key's name. None if the key is unknown."""
        if self._file is not None and self._clock() - self._checked_s >= CHECK_EVERY_S:
            self.refresh()
        return self._names.get(hash_of(key)) if key else None

    def refresh(self) -> None:
        """Read the file again if it has changed."""
        self._checked_s = self._clock()
        if self._file is None or (state := _state_of(self._file)) == self._state:
            return
        self._state = state
        try:
            self._take(read_keys(self._file))
        except InvalidInput as error:
            log.error("API keys were not reloaded: %s", error.message)
        else:
            log.warning("API keys reloaded: %s", ", ".join(sorted(set(self._names.values()))))

    def _take(self, keys: dict[str, str]) -> None:
        named = {**keys, **({self._single: SINGLE} if self._single else {})}
        self._names = {hash_of(key): name for key, name in named.items()}


def _state_of(file: Path) -> tuple[int, ...]:
    """Changes whenever the file is written or replaced. Empty if there is no file."""
    try:
        about = file.stat()
    except OSError:
        return ()
    return about.st_mode, about.st_mtime_ns, about.st_size, about.st_ino


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path, options: str, field: str) -> None:
    """Give a certificate with its chain and its key to this context. `options` names both in messages.
    Raises InvalidInput."""
    for path in (certificate, key):
        try:
            path.open("rb").close()
        except OSError as error:
            raise InvalidInput(f"{options}: cannot read {path}: {error.strerror}", field=field) from None
    try:
        context.load_cert_chain(certificate, key, password=b"")  # never ask at the terminal
    except OSError as error:  # ssl.SSLError too
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            why = f"the key in {key} does not belong to the certificate in {certificate}"
        else:
            why = f"{certificate} and {key} must be a certificate and its key in PEM form, without a password"
        raise InvalidInput(f"{options}: {why}", field=field) from None


def checked_authorities(file: Path | None, option: str) -> Path | None:
    """The file, if it has certificates of authorities; None for the system's. Raises InvalidInput."""
    if file is not None:
        try:
            ssl.create_default_context(cafile=str(file))
        except ssl.SSLError:
            raise InvalidInput(f"{option}: {file} has no certificate in PEM form", field="ca") from None
        except OSError as error:
            raise InvalidInput(f"{option}: cannot read {file}: {error.strerror}", field="ca") from None
    return file
