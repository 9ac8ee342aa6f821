"""The name of this server on a broker: the host's name and a short id that persists across restarts.

Several servers of one user on one host take different ids: each id is a file that its server locks.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from server.control.mqtt.topics import MAX_NODE, is_node

log = logging.getLogger(__name__)

ID_BYTES = 3
MOST = 64  # servers of one user on one host that can have a persistent id


def state_folder() -> Path:
    """$XDG_STATE_HOME/psistream, by default ~/.local/state/psistream."""
    given = os.environ.get("XDG_STATE_HOME", "")
    home = Path(given) if os.path.isabs(given) else Path(os.path.expanduser("~")) / ".local" / "state"
    return home / "psistream"


@contextmanager
def default_node(folder: Path | None = None) -> Iterator[str]:
    """This host's name and the first id in `folder` that no running server uses; it stays locked until
    exit."""
    host = host_name()[: MAX_NODE - 2 * ID_BYTES - 1].strip("-.")
    with _locked_id(folder or state_folder()) as id_:
        yield f"{host}-{id_}"


def host_name() -> str:
    name = "".join(c if c.isascii() and c.isalnum() else "-" for c in socket.gethostname()).strip("-")
    return name or "local"


@contextmanager
def _locked_id(folder: Path) -> Iterator[str]:
    file = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _first_free(folder)
    except OSError as error:
        log.info("the node's id is not kept between starts, since %s: %s", folder, error.strerror or error)
    if file is None:
        yield secrets.token_hex(ID_BYTES)
        return
    with file:  # closing it releases the lock
        yield _read_or_make(file)


def _first_free(folder: Path) -> IO[str] | None:
    for number in range(MOST):
        file = (folder / f"node-{number}").open("a+", encoding="ascii", errors="replace")
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        file.close()
    return None


def _read_or_make(file: IO[str]) -> str:
    file.seek(0)
    kept = file.read(64).strip()
    if is_node(kept) and len(kept) == 2 * ID_BYTES:
        return kept
    made = secrets.token_hex(ID_BYTES)
    file.truncate(0)
    file.write(made + "\n")
    file.flush()
    return made
