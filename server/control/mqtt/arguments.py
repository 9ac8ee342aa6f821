"""The options of `psistream serve` about MQTT, and the settings they make."""

from __future__ import annotations

import argparse

from engine.errors import InvalidInput
from server.config import MqttOptions
from server.control.mqtt.topics import NODE_RULE, Topics, is_node

defaults = MqttOptions()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("MQTT").add_argument
    add("--mqtt", default="embedded", metavar="WHERE", help="embedded, off, or mqtt://user:pass@host:1883")
    add("--node", metavar="NAME", help="this server's name in topics (default: the host's, and a kept id)")
    add("--mqtt-prefix", default=defaults.prefix, metavar="TOPIC", help="of topics (default: %(default)s)")


def options_of(args: argparse.Namespace) -> MqttOptions:
    """Raises InvalidInput."""
    if args.node is not None and not is_node(args.node):
        raise InvalidInput(f"--node must be {NODE_RULE}", field="node")
    Topics(args.mqtt_prefix)
    return MqttOptions(node=args.node, prefix=args.mqtt_prefix)
