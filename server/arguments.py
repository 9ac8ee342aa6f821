"""The options of `psistream serve`, and how they are turned into settings."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import cast

from engine.commandline.parser import Parser, check_belongs, check_unused, given
from engine.errors import InvalidInput
from engine.wire.parse import parse_new_session
from server.cluster import gateway as joining
from server.config import (
    MAX_WORKERS,
    IceServer,
    Placement,
    ServerConfig,
    parse_ports,
)
from server.control.mqtt import arguments as mqtt
from server.gpus import gpus
from server.http.edge.prefix import checked_prefix
from server.keys import checked_authorities, read_secret
from server.storage import add_snapshots, storage_of
from server.worker.hosting.options import OF_A_WORKER, add_worker_options, worker_config
from server.worker.remote import WorkerAddress

KEY_VARIABLE = "PSISTREAM_API_KEY"
WHIP_VARIABLE = "PSISTREAM_WHIP_TOKEN"
ON_GPU = ("reference", "cuda", "tensorrt", "auto")  # backends that use a GPU if there is one
defaults = ServerConfig()


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="psistream serve", description="Run the server; its page is on the same port.")
    add = p.add_argument
    add("--host", default=defaults.host, help="address to listen on (default: only this machine)")
    add("--port", type=int, default=defaults.port, help="HTTP port (default: %(default)s)")
    add(
        "--root-path",
        default="",
        metavar="PATH",
        help="path under which a proxy publishes it, such as /video",
    )
    add_worker_options(p)
    add("--prompt", default=defaults.prompt, help="prompt of the shared session")
    add("--seed", type=int, help="seed of the shared session (default: random)")
    add(
        "--worker",
        action="append",
        default=[],
        metavar="WHERE",
        help="where the model runs: process, thread, or tcp://HOST:PORT of a `psistream worker`, several "
        f"times for several of them; tls:// for one with a certificate (default: {defaults.placement})",
    )
    add("--worker-key-file", type=Path, metavar="FILE", help="the key of workers that listen, or several")
    add(
        "--worker-ca",
        type=Path,
        metavar="FILE",
        help="who signed their certificates (default: the system's)",
    )
    joining.add_join(add)
    add_snapshots(add)
    add(
        "--workers",
        type=_workers,
        default=defaults.workers,
        metavar="N",
        help="workers, each with its own copy of the model; auto: one per GPU (default: %(default)s)",
    )
    add(
        "--client-sessions",
        type=int,
        default=defaults.client_sessions,
        metavar="N",
        help="concurrent sessions per client address; 0: no limit (default: %(default)s)",
    )
    add(
        "--client-device-s",
        type=float,
        default=defaults.client_device_s,
        metavar="S",
        help="seconds of device time per minute for all sessions of one address (default: no limit)",
    )
    add(
        "--max-viewers",
        type=int,
        default=defaults.max_viewers,
        metavar="N",
        help="limit of viewers of all sessions together (default: %(default)s)",
    )
    add(
        "--ice-server", action="append", default=[], metavar="URL", help="stun:host:port, turn:user:pass@host"
    )
    add("--udp-ports", metavar="A-B", help="ports for the video, such as 40000-40100 (default: any free one)")
    add(
        "--public-address",
        action="append",
        default=[],
        metavar="IP",
        help="address of the router or host that forwards --udp-ports to this machine",
    )
    add("--whip", metavar="URL", help="push session `main` to this media server, which serves many viewers")
    add(
        "--whip-token",
        default=os.environ.get(WHIP_VARIABLE),
        metavar="TOKEN",
        help=f"token for --whip (${WHIP_VARIABLE})",
    )
    add("--allow-origin", action="append", default=[], metavar="URL", help="site that may call the server")
    add("--api-key", default=os.environ.get(KEY_VARIABLE), help=f"key for opening sessions (${KEY_VARIABLE})")
    add("--api-keys", type=Path, metavar="FILE", help="file of several keys; each line has a name and a key")
    mqtt.add_arguments(p)
    add(
        "--spare",
        choices=("auto", "on", "off"),
        default=defaults.spare,
        help="keep a second worker loaded, so that failover takes less than a second (default: if memory "
        "allows)",
    )
    add(
        "--ops-port",
        metavar="[HOST:]PORT",
        help="serve health and metrics on a port of their own (default host: 127.0.0.1)",
    )
    return p


def settings(args: argparse.Namespace) -> ServerConfig:
    """Raises InvalidInput."""
    ops_host, ops_port = _ops_address(args.ops_port)
    on_gpu = args.backend in ON_GPU or args.weights is not None
    devices = gpus() if args.workers != 1 and on_gpu else ()
    workers = args.workers or max(1, len(devices))
    placement, remotes = _placement(args.worker)
    _check_combination(args, remotes)
    if workers > 1 and placement == "thread":
        raise InvalidInput("--workers above 1 needs --worker process", field="workers")
    config = ServerConfig(
        host=re.sub(r"^\[(.*)\]$", r"\1", args.host),  # as in --listen [::1]:7070
        port=args.port,
        ops_host=ops_host,
        ops_port=ops_port,
        worker=worker_config(args),
        placement=placement,
        workers=len(remotes) or workers,
        remotes=remotes,
        worker_key=_worker_key(args.worker_key_file, remotes),
        worker_ca=checked_authorities(args.worker_ca if remotes else None, "--worker-ca"),
        devices=devices,
        mqtt=args.mqtt,
        mqtt_options=mqtt.options_of(args),
        prompt=_prompt(args.prompt),
        seed=args.seed,
        root_path=checked_prefix(args.root_path),
        api_key=args.api_key or None,
        api_keys=args.api_keys,
        origins=tuple(args.allow_origin),
        ice_servers=tuple(IceServer.parse(url) for url in args.ice_server),
        udp_ports=None if args.udp_ports is None else parse_ports(args.udp_ports),
        public_addresses=tuple(args.public_address),
        whip=args.whip,
        whip_token=args.whip_token or None,
        max_viewers=args.max_viewers,
        spare=args.spare,
        storage=storage_of(args),
        client_sessions=args.client_sessions,
        client_device_s=args.client_device_s,
    )
    return joining.with_join(config, args)


def _check_combination(args: argparse.Namespace, remotes: tuple[str, ...]) -> None:
    """Raises InvalidInput for options that have no effect together with others."""
    if args.join is not None and (args.worker or given(args, "workers")):
        raise InvalidInput(
            "--join finds workers through the directory: leave out --worker and --workers", field="join"
        )
    if remotes or args.join is not None:
        beside = "--join" if args.join is not None else "--worker tcp://"
        check_unused(args, beside, "workers", "spare")
        check_unused(args, beside, *OF_A_WORKER, instead="give {it} to `psistream worker`")
    elif args.join is None:
        check_belongs(args, "--worker tcp://HOST:PORT", "worker_key_file", "worker_ca")
    if remotes and not any(each.startswith("tls://") for each in remotes):
        check_belongs(args, "--worker tls://HOST:PORT", "worker_ca")
    if not args.whip:
        check_belongs(args, "--whip", "whip_token")


def _placement(where: list[str]) -> tuple[Placement, tuple[str, ...]]:
    """And the workers that listen, if the model runs there. Raises InvalidInput."""
    if local := [each for each in where if each in ("process", "thread")]:
        if len(set(where)) > 1:
            raise InvalidInput(
                f"--worker {local[0]} is for all workers: leave out the other --worker", field="worker"
            )
        return cast(Placement, local[0]), ()
    if not where:
        return defaults.placement, ()
    remotes = tuple(dict.fromkeys(str(WorkerAddress.parse(each)) for each in where))
    return "remote", remotes


def _worker_key(file: Path | None, remotes: tuple[str, ...]) -> bytes:
    """Raises InvalidInput."""
    if file is None or not remotes:
        return b""
    return read_secret(file, "--worker-key-file")


def _workers(text: str) -> int:
    """Parse --workers; 0 means auto. Raises ArgumentTypeError."""
    if text == "auto":
        return 0
    count = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= count <= MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"must be auto or 1 to {MAX_WORKERS}, not {text:.40}")
    return count


def _ops_address(text: str | None) -> tuple[str, int | None]:
    """Host and port of --ops-port. Raises InvalidInput."""
    if text is None:
        return defaults.ops_host, None
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit()):
        raise InvalidInput(
            f"--ops-port must look like 9090 or 0.0.0.0:9090, not {text:.40}", field="ops_port"
        )
    return host.strip("[]") or defaults.ops_host, int(port)


def _prompt(text: str) -> str:
    """A prompt as clients would send it. Raises InvalidInput."""
    prompt = parse_new_session({"prompt": text})[0].prompt
    return prompt if isinstance(prompt, str) else text
