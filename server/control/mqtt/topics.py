"""The MQTT topic tree psistream/v1: names out of ids, and ids out of names. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

ROOT = "psistream/v1"
ALL_CLIENTS = "all"
COMMANDS = f"{ROOT}/session/+/cmd/+"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
NAME_RULE = "1 to 64 letters, digits, dots, dashes or underscores"
MAX_TOPIC_BYTES = 256


class CommandTopic(NamedTuple):
    session: str
    verb: str


def is_name(value: object) -> bool:
    """Whether it may be a session, client or node in a topic: no wildcards, no slashes, no surprises."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def parse_command(topic: str) -> CommandTopic | None:
    """What a command topic says, or None if its session or verb can't be one."""
    parts = topic.split("/")
    if len(parts) != 6 or "/".join(parts[:3]) != f"{ROOT}/session" or parts[4] != "cmd":
        return None
    return CommandTopic(parts[3], parts[5]) if is_name(parts[3]) and is_name(parts[5]) else None


def command(session: str, verb: str) -> str:
    return f"{ROOT}/session/{session}/cmd/{verb}"


def ack(session: str, client: str = ALL_CLIENTS) -> str:
    return f"{ROOT}/session/{session}/ack/{client}"


def state(session: str) -> str:
    return f"{ROOT}/session/{session}/state"


def event(session: str) -> str:
    return f"{ROOT}/session/{session}/event"


def error(session: str) -> str:
    return f"{ROOT}/session/{session}/error"


def status(node: str) -> str:
    return f"{ROOT}/engine/{node}/status"


def may_reply_to(topic: object, session: str) -> bool:
    """Answers may go anywhere but to broker topics and to our own tree outside this session's acks: else a
    client could have the server steer other sessions, or itself, in its name."""
    if not isinstance(topic, str) or not 0 < len(topic.encode("utf-8", "replace")) <= MAX_TOPIC_BYTES:
        return False
    if any(character in "+#" or not character.isprintable() for character in topic) or topic.startswith("$"):
        return False
    return not topic.startswith("psistream/") or topic.startswith(f"{ROOT}/session/{session}/ack/")
