"""The configuration of the embedded mosquitto: limits, listeners, users and, optionally, read rights."""

from __future__ import annotations

import base64
import hashlib
import os
import pwd
from pathlib import Path
from typing import NamedTuple

from server.config import MqttListen
from server.control.mqtt.topics import Topics

LIMITS = """\
max_packet_size 4194304
max_inflight_messages 64
max_queued_messages 4096
max_queued_bytes 16777216
memory_limit 268435456
persistent_client_expiration 1d
persistence false
set_tcp_nodelay true
sys_interval 10
log_dest stderr
log_type error
log_type warning
per_listener_settings true
"""
MAX_CONNECTIONS = 256  # per listener


class Ports(NamedTuple):
    outer: int
    inner: int  # on loopback, for the server itself
    websocket: int


def write_configuration(
    folder: Path, listen: MqttListen, ports: Ports, own: tuple[str, str], private: Topics | None
) -> None:
    """Write mosquitto.conf and the files that it names into `folder`. `own` is the server's user with its
    password. With `private`, other clients may publish commands but not read them."""
    users = [own] if listen.user is None else [own, listen.user]
    users_file = folder / "users"
    users_file.write_text("".join(f"{name}:{_hashed(password)}\n" for name, password in users))
    users_file.chmod(0o600)
    common = [f"max_connections {MAX_CONNECTIONS}", f"password_file {users_file}"]
    if private is not None:
        acl_file = folder / "acl"
        acl_file.write_text(_rights(private, own[0], listen.user[0] if listen.user else None))
        acl_file.chmod(0o600)
        common.append(f"acl_file {acl_file}")
    lines = [LIMITS, f"user {pwd.getpwuid(os.geteuid()).pw_name}"]
    inner = [f"listener {ports.inner} 127.0.0.1", "allow_anonymous false"]
    outer = [f"allow_anonymous {str(listen.user is None).lower()}"]
    if listen.tls is not None:
        outer += [f"certfile {listen.tls[0].resolve()}", f"keyfile {listen.tls[1].resolve()}"]
    lines += [*inner, *common, f"listener {ports.outer} {listen.host}", *outer, *common]
    if listen.websocket_port is not None:
        websocket = [f"listener {ports.websocket} {listen.host}", "protocol websockets"]
        lines += [*websocket, *outer, *common]
    (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")


def _rights(topics: Topics, own: str, user: str | None) -> str:
    """An ACL. It cannot revoke rights from a wildcard, so it lists what clients may use: our topics, and
    `answers/` for replies elsewhere."""
    read = [topics.state("+"), topics.event("+"), topics.error("+"), topics.ack("+", "+")]
    read += [topics.statuses, topics.sessions("+")]
    rules = [f"topic write {topics.commands}", *(f"topic read {topic}" for topic in read)]
    rules.append("topic readwrite answers/#")
    whose = [f"user {user}"] if user else []  # rules without a user are for those who give no name
    return "\n".join([*whose, *rules, f"user {own}", "topic readwrite #"]) + "\n"


def _hashed(password: str) -> str:
    """A password's hash as mosquitto_passwd writes it: salted PBKDF2 with SHA-512."""
    salt, rounds = os.urandom(12), 101
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    return f"$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
