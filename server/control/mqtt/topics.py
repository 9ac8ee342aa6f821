"""The MQTT topic tree below a prefix: names from ids, and ids from names. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from engine.errors import InvalidInput

PREFIX = "psistream/v1"
ALL_CLIENTS = "all"
MAIN = "main"  # the session that every server has
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
NAME_RULE = "1 to 64 letters, digits, dots, dashes or underscores"
NODE_RULE = "1 to 48 letters, digits, dots, dashes or underscores, beginning with a letter or digit"
PREFIX_RULE = "1 to 8 names of letters, digits, dots, dashes or underscores with slashes between them"
MAX_NODE = 48
MAX_TOPIC_BYTES = 256


class CommandTopic(NamedTuple):
    name: str  # a session's name in topics: its id, or main.NODE
    verb: str


def is_name(value: object) -> bool:
    """Whether the value is allowed as a session, client or node in a topic: no wildcards, no slashes."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def is_node(value: object) -> bool:
    return isinstance(value, str) and is_name(value) and len(value) <= MAX_NODE


@dataclass(frozen=True)
class Topics:
    """Raises InvalidInput for a prefix that cannot be one."""

    prefix: str = PREFIX

    def __post_init__(self) -> None:
        parts = self.prefix.split("/")
        if not (1 <= len(parts) <= 8 and len(self.prefix) <= 100 and all(map(is_name, parts))):
            raise InvalidInput(f"--mqtt-prefix must be {PREFIX_RULE}", field="mqtt_prefix")

    @property
    def commands(self) -> str:
        """A filter for the commands to all sessions of all servers."""
        return self.command("+", "+")

    @property
    def statuses(self) -> str:
        """A filter for the status messages of all servers."""
        return self.status("+")

    def session(self, name: str) -> str:
        return f"{self.prefix}/session/{name}"

    def command(self, name: str, verb: str) -> str:
        return f"{self.session(name)}/cmd/{verb}"

    def ack(self, name: str, client: str = ALL_CLIENTS) -> str:
        return f"{self.session(name)}/ack/{client}"

    def state(self, name: str) -> str:
        return f"{self.session(name)}/state"

    def event(self, name: str) -> str:
        return f"{self.session(name)}/event"

    def picture(self, name: str) -> str:
        return f"{self.session(name)}/picture"

    def error(self, name: str) -> str:
        return f"{self.session(name)}/error"

    def status(self, node: str) -> str:
        return f"{self.prefix}/engine/{node}/status"

    def sessions(self, node: str) -> str:
        return f"{self.prefix}/engine/{node}/sessions"

    def parse_command(self, topic: str) -> CommandTopic | None:
        """The session and verb of a command topic, or None if they are malformed."""
        parts = self._below(topic, "session")
        if len(parts) != 3 or parts[1] != "cmd":
            return None
        return CommandTopic(parts[0], parts[2]) if is_name(parts[0]) and is_name(parts[2]) else None

    def parse_sessions(self, topic: str) -> str | None:
        """The node of a topic with the names of its sessions."""
        return self._node_in(topic, "sessions")

    def parse_status(self, topic: str) -> str | None:
        """The node of a status topic."""
        return self._node_in(topic, "status")

    def may_reply_to(self, topic: object, name: str) -> bool:
        """Answers may go to any topic except the broker's own, and ours other than this session's acks.
        Otherwise a client could make the server steer other sessions, or itself."""
        if not isinstance(topic, str) or not 0 < len(topic.encode("utf-8", "replace")) <= MAX_TOPIC_BYTES:
            return False
        if any(character in "+#" or not character.isprintable() for character in topic):
            return False
        if topic.startswith(f"{self.session(name)}/ack/"):
            return True
        return not topic.startswith(("$", "psistream/", f"{self.prefix}/"))

    def _node_in(self, topic: str, kind: str) -> str | None:
        parts = self._below(topic, "engine")
        return parts[0] if len(parts) == 2 and parts[1] == kind and is_node(parts[0]) else None

    def _below(self, topic: str, branch: str) -> list[str]:
        root = f"{self.prefix}/{branch}/"
        return topic.removeprefix(root).split("/") if topic.startswith(root) else []


def main_of(node: str) -> str:
    """The topic name of a server's session `main`."""
    return f"{MAIN}.{node}"


def node_of_main(name: str) -> str | None:
    """The node in such a name."""
    head, dot, node = name.partition(".")
    return node if head == MAIN and dot else None
