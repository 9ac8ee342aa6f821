"""A mosquitto process with a password file."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
from pathlib import Path

from tests.rigs.control.port_server import PortServer
from tests.rigs.skips import need

MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"


class Mosquitto(PortServer):
    """Debian's mosquitto with its own configuration."""

    def __init__(self, folder: Path, *config: str, anonymous: bool = True) -> None:
        super().__init__()
        file = folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", f"allow_anonymous {str(anonymous).lower()}", *config]
        file.write_text("\n".join([*lines, "max_packet_size 2000000", "log_type none", ""]))
        self.command = [MOSQUITTO, "-c", str(file)]

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"


def mosquitto_hash(password: str) -> str:
    """A password's hash as mosquitto_passwd writes it: salted PBKDF2 with SHA-512."""
    salt, rounds = os.urandom(12), 101
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    return f"$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def need_mosquitto() -> None:
    need(os.path.exists(MOSQUITTO), "mosquitto")


def need_mosquitto_pub() -> None:
    need(shutil.which("mosquitto_pub") is not None, "mosquitto-clients")
