"""The MQTT options of `psistream serve`, and how they become settings."""

from __future__ import annotations

import argparse
import ipaddress
import os
import ssl
from pathlib import Path

from engine.commandline.parser import check_unused
from engine.errors import InvalidInput
from server.config import MqttListen, MqttOptions
from server.control.mqtt.topics import NODE_RULE, Topics, is_node
from server.keys import load_certificate

URL_VARIABLE = "PSISTREAM_MQTT"
USER_VARIABLE = "PSISTREAM_MQTT_USER"
OF_TOPICS = ("mqtt_prefix", "mqtt_access", "mqtt_discovery")
OF_EMBEDDED = ("mqtt_listen", "mqtt_websockets", "mqtt_tls", "mqtt_user")
defaults = MqttOptions()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("MQTT", "--mqtt-listen and below apply to the embedded broker")
    add = group.add_argument
    add(
        "--mqtt",
        default=os.environ.get(URL_VARIABLE) or "embedded",
        metavar="WHERE",
        help=f"embedded, off, or mqtt://user:pass@host:1883 (${URL_VARIABLE})",
    )
    add(
        "--node",
        metavar="NAME",
        help="this server's name in topics (default: --name, or the host's name and an id)",
    )
    add("--mqtt-prefix", default=defaults.prefix, metavar="TOPIC", help="of topics (default: %(default)s)")
    add(
        "--mqtt-access",
        choices=("open", "token"),
        default=defaults.access,
        help="who may steer: whoever may publish, or who sends a session's token (default: %(default)s)",
    )
    add("--mqtt-discovery", choices=("homeassistant",), help="let this find the server by itself")
    listen = f"{defaults.listen.host}:{defaults.listen.port}"
    add("--mqtt-listen", default=listen, metavar="HOST:PORT", help="its address (default: %(default)s)")
    add(
        "--mqtt-websockets",
        default=str(defaults.listen.websocket_port),
        metavar="PORT|off",
        help="its port for WebSockets, where mosquitto is installed (default: %(default)s)",
    )
    add("--mqtt-tls", nargs=2, type=Path, metavar=("CERT", "KEY"), help="PEM files, for mqtts:// and wss://")
    add(
        "--mqtt-user",
        default=os.environ.get(USER_VARIABLE),
        metavar="NAME:PASSWORD",
        help=f"the user that may connect (${USER_VARIABLE}; default: everybody on this machine)",
    )


def options_of(args: argparse.Namespace) -> MqttOptions:
    """Raises InvalidInput."""
    if args.mqtt == "off":
        check_unused(args, "--mqtt off", "node", *OF_TOPICS, *OF_EMBEDDED)
    elif not args.mqtt.startswith("embedded"):
        check_unused(args, "a broker of your own", *OF_EMBEDDED, instead="set {it} at the broker")
    if args.node is not None and not is_node(args.node):
        raise InvalidInput(f"--node must be {NODE_RULE}", field="node")
    Topics(args.mqtt_prefix)
    return MqttOptions(
        node=args.node,
        prefix=args.mqtt_prefix,
        discovery=args.mqtt_discovery,
        access=args.mqtt_access,
        listen=_listen_of(args),
    )


def _listen_of(args: argparse.Namespace) -> MqttListen:
    host, _, port = args.mqtt_listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not _is_port(port):
        raise InvalidInput("--mqtt-listen must look like 127.0.0.1:1883 or [::1]:1883", field="mqtt_listen")
    if args.mqtt_websockets != "off" and not _is_port(args.mqtt_websockets):
        raise InvalidInput("--mqtt-websockets must be a port, 0 for any, or off", field="mqtt_websockets")
    if args.mqtt_tls:
        _check_tls(*args.mqtt_tls)
    name, colon, password = (args.mqtt_user or "").partition(":")
    if args.mqtt_user and not (name and colon and password and name.isprintable()):
        raise InvalidInput("--mqtt-user must look like name:password", field="mqtt_user")
    if not args.mqtt_user and not _is_loopback(host):
        raise InvalidInput(
            f"--mqtt-listen {host} lets others in: give --mqtt-user (and --mqtt-tls)", field="mqtt_user"
        )
    return MqttListen(
        host=host,
        port=int(port),
        websocket_port=None if args.mqtt_websockets == "off" else int(args.mqtt_websockets),
        tls=tuple(args.mqtt_tls) if args.mqtt_tls else None,
        user=(name, password) if args.mqtt_user else None,
    )


def _check_tls(certificate: Path, key: Path) -> None:
    load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key, "--mqtt-tls", "mqtt_tls")


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) < 65536


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
