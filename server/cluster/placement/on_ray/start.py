"""`psistream cluster ray`: becomes `ray start`, with the settings that placement needs."""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from engine.commandline.parser import check_unused
from engine.errors import InvalidInput, Unavailable
from engine.text_files import read_text
from server.cluster.placement.on_ray.placer import INSTALL, NO_TOKEN, PROBE_S, plain
from server.cluster.placement.on_ray.settings import environment
from server.keys import MAKE_ONE
from server.worker.hosting.listen import host_and_port

PORT = 6379
VERSION_PROBE = "server.cluster.placement.on_ray.version_probe"
LABELS = re.compile(r"[\w./-]+=[\w.-]+(,[\w./-]+=[\w.-]+)*", re.ASCII)
STORE_BYTES = 80_000_000  # the least that Ray takes: nothing of ours is in its object store


def add_ray(p: argparse.ArgumentParser) -> None:
    p.description = (
        "Start Ray on this host in the foreground, for `psistream cluster up --ray`: as its head, or with "
        "--head as one more host. It asks for a token (RAY_AUTH_TOKEN_PATH), notices lost hosts within 10 s, "
        "and lets hosts wait 300 s for a new head. Ray listens on all interfaces."
    )
    add = p.add_argument
    add("--address", required=True, metavar="IP", help="of this host, where the others reach it")
    add("--head", metavar="HOST:PORT", help="join this head (default: be the head)")
    add("--port", type=int, default=PORT, help="of the head (default: %(default)s)")
    add("--redis", metavar="HOST:PORT", help="keeps the head's tables, so that a new head goes on with them")
    add("--gpus", type=int, metavar="N", help="that Ray may give to workers (default: all)")
    add("--cpus", type=int, metavar="N", help="the same of processors (default: all)")
    add("--labels", metavar="K=V,...", help="what this host is known by, for --host-label")


def start_ray(args: argparse.Namespace) -> NoReturn:
    """Raises InvalidInput, Unavailable."""
    check(args)
    if importlib.util.find_spec("ray") is None:
        raise Unavailable(f"Ray is not installed: {INSTALL}", field="ray")
    if os.environ.get("RAY_AUTH_MODE", "token") != "token" or not _has_token():
        raise Unavailable(NO_TOKEN, field="ray")
    settings = {**os.environ, **environment(redis=args.redis)}
    if args.head is not None and (differs := difference(args.head, settings)):
        raise Unavailable(plain(differs), field="ray")
    sys.stdout.flush()
    os.execve(
        sys.executable, [sys.executable, "-m", "ray.scripts.scripts", "start", *options(args)], settings
    )


def check(args: argparse.Namespace) -> None:
    """Ray itself answers mistakes with tracebacks, or waits for a minute. Raises InvalidInput."""
    try:
        ipaddress.ip_address(args.address)
    except ValueError:
        raise InvalidInput(
            f"--address must be an IP address of this host, not {args.address!r:.60}", field="address"
        ) from None
    if args.head is not None:
        check_unused(args, "--head", "redis", "port", instead="give {it} to the head")
    for name in ("head", "redis"):
        if (value := getattr(args, name)) is not None:
            host_and_port(value, f"--{name}")
    if not 1 <= args.port <= 65535:
        raise InvalidInput(f"--port must be 1 to 65535, not {args.port}", field="port")
    for name in ("gpus", "cpus"):
        if (value := getattr(args, name)) is not None and value < 0:
            raise InvalidInput(f"--{name} must be 0 or a positive number, not {value}", field=name)
    if args.labels is not None and not LABELS.fullmatch(args.labels):
        raise InvalidInput(
            f"--labels must look like gpu=h100,rack=7, not {args.labels!r:.60}", field="labels"
        )


def difference(head: str, settings: dict[str, str]) -> str:
    """What Ray says if its head has other versions; empty if it has the same, or does not answer."""
    command = [sys.executable, "-m", VERSION_PROBE, head]
    try:
        done = subprocess.run(
            command, env=settings, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PROBE_S
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip()


def options(args: argparse.Namespace) -> list[str]:
    """Of `ray start`."""
    made = ["--block", "--disable-usage-stats", f"--node-ip-address={args.address}"]
    made.append(f"--object-store-memory={STORE_BYTES}")
    if args.head is None:
        made += ["--head", f"--port={args.port}", "--include-dashboard=false"]
    else:
        made.append(f"--address={args.head}")
    for name, option in (("gpus", "num-gpus"), ("cpus", "num-cpus"), ("labels", "labels")):
        if (value := getattr(args, name)) is not None:
            made.append(f"--{option}={value}")
    return made


def _has_token() -> bool:
    """Where Ray looks for it. Raises InvalidInput."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return True
    if file := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        if not read_text(Path(file), "RAY_AUTH_TOKEN_PATH").strip():
            raise InvalidInput(f"RAY_AUTH_TOKEN_PATH: {file} is empty; {MAKE_ONE} > {file}", field="ray")
        return True
    return os.path.exists(os.path.expanduser("~/.ray/auth_token"))
