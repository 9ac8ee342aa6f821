"""Where a process of psistream listens for others: an address, the key that they must have, and TLS."""

from __future__ import annotations

import argparse
import errno
import ipaddress
import os
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.errors import InvalidInput, PsistreamError, Unavailable
from server.keys import MAKE_ONE, load_certificate, read_secret
from server.worker.remote import HOST_AND_PORT, WorkerAddress


@dataclass(frozen=True)
class Listen:
    """`key` is empty only on loopback."""

    host: str
    port: int
    key: bytes
    tls: ssl.SSLContext | None = None

    def url(self, port: int) -> str:
        """Where it is reached from this host, with the port that it got."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tcp' if self.tls is None else 'tls'}://{host}:{port}"


def add_listen(add: Callable[..., object], default: str | None, who: str) -> None:
    """The options of one that listens. `who` visits it."""
    add(
        "--listen",
        required=default is None,
        default=default,
        metavar="HOST:PORT",
        help="where to listen, such as 10.0.0.7:7070"
        + ("" if default is None else " (default: %(default)s)"),
    )
    shared = f"the key, or several, one a line, that its {who} have too; optional on loopback"
    add("--key-file", type=Path, metavar="FILE", help=shared)
    add("--tls-cert", type=Path, metavar="FILE", help="certificate with its chain (PEM), for tls://")
    add("--tls-key", type=Path, metavar="FILE", help="the certificate's key (PEM)")


def listen_of(args: argparse.Namespace) -> Listen:
    """Raises InvalidInput."""
    host, port = host_and_port(args.listen, "--listen", least=0)
    if args.key_file is None and not is_loopback(host):
        raise InvalidInput(
            f"--listen {host} lets others in: give --key-file; {MAKE_ONE} > worker.key",
            field="key_file",
        )
    if (args.tls_cert is None) != (args.tls_key is None):
        raise InvalidInput("--tls-cert and --tls-key belong together: give both or none", field="tls_cert")
    key = b"" if args.key_file is None else read_secret(args.key_file, "--key-file")
    return Listen(host, port, key, None if args.tls_cert is None else _tls(args.tls_cert, args.tls_key))


def host_and_port(text: str, option: str, least: int = 1) -> tuple[str, int]:
    """Raises InvalidInput."""
    found = re.fullmatch(HOST_AND_PORT, text)
    if found is None or not least <= int(found[2]) <= 65535:
        field = option.strip("-").replace("-", "_")
        raise InvalidInput(
            f"{option} must look like 10.0.0.7:7070 or [::1]:7070, not {text!r:.40}", field=field
        )
    return found[1].strip("[]"), int(found[2])


def cannot_listen(error: OSError, where: Listen) -> PsistreamError:
    """InvalidInput if its address is none of this machine's, otherwise Unavailable."""
    kind = InvalidInput if wrong_address(error) else Unavailable
    known = error.errno is not None and error.errno > 0  # asyncio adds the address, which is told here
    why = os.strerror(error.errno or 0) if known else error.strerror or error
    return kind(
        f"cannot listen on {where.host}, port {where.port}: {why}; check --listen",
        field="listen",
    )


def wrong_address(error: OSError) -> bool:
    """Whether there is no such address here, which waiting does not change."""
    return isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_wildcard(host: str) -> bool:
    """Whether it listens on all addresses, of which none is told to others."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def is_private(host: str, directory: WorkerAddress) -> bool:
    """Whether members of this directory cannot reach one that listens here: on no address in particular, or
    on loopback while the directory is elsewhere."""
    return is_wildcard(host) or (is_loopback(host) and not is_loopback(directory.host))


def _tls(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    load_certificate(context, certificate, key, "--tls-cert and --tls-key", "tls_cert")
    return context
