"""The options by which `psistream serve` joins a directory."""

from __future__ import annotations

import argparse
import re
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from engine.commandline.parser import check_belongs, check_unused
from engine.errors import InvalidInput
from server.cluster.checks import check_gateway_name, check_gateway_url
from server.cluster.messages import GATEWAY_NAME
from server.config import ServerConfig
from server.keys import checked_authorities, read_secret
from server.worker.hosting.listen import is_private
from server.worker.remote import WorkerAddress


def add_join(add: Callable[..., object]) -> None:
    add(
        "--join",
        metavar="URL",
        help="find workers and other gateways through this directory, tcp://HOST:PORT (psistream cluster up)",
    )
    add("--join-key-file", type=Path, metavar="FILE", help="the key of the cluster, or several, one a line")
    add(
        "--join-ca",
        type=Path,
        metavar="FILE",
        help="who signed their certificates (default: the system's)",
    )
    add("--name", help="this gateway's name, which starts the ids of its sessions (default: of the host)")
    add(
        "--advertise",
        metavar="URL",
        help="where other gateways reach this one, such as http://10.0.0.5:8080 (default: where it listens)",
    )


def with_join(config: ServerConfig, args: argparse.Namespace) -> ServerConfig:
    """Raises InvalidInput."""
    if args.join is None:
        check_belongs(args, "--join", "join_key_file", "join_ca", "name", "advertise")
        return config
    for option in ("key-file", "ca"):
        check_unused(args, "--join", f"worker_{option}".replace("-", "_"), instead=f"use --join-{option}")
    check_unused(args, "--join", "node", instead="a gateway's node is its --name")
    name = default_name(socket.gethostname()) if args.name is None else args.name
    check_gateway_name(name)
    directory = WorkerAddress.parse(args.join, "--join")
    if args.advertise is not None:
        check_gateway_url(args.advertise)
    elif is_private(config.host, directory):
        raise InvalidInput(
            f"--host {config.host} does not say where other gateways reach this one: give --advertise, such "
            "as http://10.0.0.5:8080",
            field="advertise",
        )
    key = b"" if args.join_key_file is None else read_secret(args.join_key_file, "--join-key-file")
    return replace(
        config,
        placement="remote",
        join=str(directory),
        worker_key=key,
        worker_ca=checked_authorities(args.join_ca, "--join-ca"),
        name=name,
        advertise=(args.advertise or "").rstrip("/"),
    )


def default_name(host: str) -> str:
    """A gateway's name from its host's, of which it keeps the end: there hosts of one kind differ."""
    plain = re.sub("[^a-z0-9]", "", host.lower())[-16:]
    return plain if GATEWAY_NAME.fullmatch(plain) else f"g{plain[-15:]}"


def advertised(config: ServerConfig, port: int) -> ServerConfig:
    """With the address where others reach this gateway, which listens on this port."""
    if config.join is None or config.advertise:
        return config
    host = f"[{config.host}]" if ":" in config.host else config.host
    return replace(config, advertise=f"http://{host}:{port}{config.root_path}")
