"""The options of `psistream cluster up` that place workers, and what comes of them."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.commandline.parser import check_belongs
from engine.errors import InvalidInput
from server.cluster.placement.base import Placer
from server.cluster.placement.local import LocalPlacer
from server.cluster.placement.on_ray.actor import HOST
from server.cluster.placement.on_ray.placer import RayPlacer
from server.cluster.placement.placement import MAX_PLACED, Members, Placement
from server.cluster.placement.reconciler import Reconciler
from server.cluster.tables import Tables
from server.cluster.worker import check_before_start, checked_config
from server.cluster.worker import parser as worker_parser
from server.gpus import gpus
from server.keys import MAKE_ONE
from server.worker.hosting.listen import Listen, host_and_port, is_wildcard

LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
FILES = ("--key-file", "--tls-cert", "--tls-key", "--join-ca", "--model", "--weights", "--image", "--video")
OURS = ("--listen", "--join", "--name", "--advertise", "--on-host", "--key-file", "--tls-cert", "--tls-key")
OF_PLACING = (
    "ray",
    "namespace",
    "gpus_per_worker",
    "cpus_per_worker",
    "host_label",
    "start_limit",
    "advertise",
    "worker_tls_cert",
    "worker_tls_key",
)


def add_placing(p: argparse.ArgumentParser) -> None:
    add = p.add_argument_group("placing workers").add_argument
    add("--workers", type=int, metavar="N", help="keep this number of workers running (default: place none)")
    add(
        "--ray",
        metavar="ADDRESS",
        help="place them on Ray's hosts: HOST:PORT of its head, or auto for the cluster of this host "
        "(default: on this machine, as children)",
    )
    add("--namespace", default="psistream", metavar="NAME", help="in Ray, per cluster (default: %(default)s)")
    add(
        "--gpus-per-worker",
        type=float,
        default=1.0,
        metavar="N",
        help="that Ray gives to each; a share such as 0.5 is not isolated (default: %(default)g)",
    )
    add("--cpus-per-worker", type=float, default=1.0, metavar="N", help="(default: %(default)g)")
    add(
        "--host-label",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only on hosts that Ray knows by this label (ray start --labels)",
    )
    add(
        "--start-limit",
        type=float,
        default=300.0,
        metavar="S",
        help="a worker that has not loaded its model by then is replaced (default: %(default)g)",
    )
    add(
        "--advertise",
        metavar="HOST:PORT",
        help="where workers reach the directory (default: where it listens)",
    )
    add("--worker-tls-cert", type=Path, metavar="FILE", help="certificate of the placed workers, for tls://")
    add("--worker-tls-key", type=Path, metavar="FILE", help="its key")


@dataclass(frozen=True)
class Placing:
    """`options` are those of each worker, but where it listens and what it joins."""

    workers: int
    options: tuple[str, ...]
    advertise: str | None = None  # HOST:PORT of the directory
    ray: str | None = None
    namespace: str = "psistream"
    gpus: float = 1.0
    cpus: float = 1.0
    labels: dict[str, str] = field(default_factory=dict)
    start_s: float = 300.0
    devices: tuple[str, ...] = ()  # of this machine, without Ray

    @contextlib.asynccontextmanager
    async def placement(self, tables: Tables, url: str) -> AsyncIterator[Placement]:
        """Places workers as long as it is open. `url` is where the directory listens. Raises Unavailable."""
        placer = self._placer(_reached_at(url, self.advertise))
        placement = Placement(placer, Members(tables), Reconciler(self.workers, new_name, self.start_s))
        running = asyncio.create_task(placement.run(), name="placement")
        try:
            yield placement
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await placer.close()

    def _placer(self, url: str) -> Placer:
        def arguments(host: str, name: str) -> Sequence[str]:
            return (*_starts(url, host, name), *self.options)

        if self.ray is None:
            local = host_of(url)
            return LocalPlacer(lambda name: arguments(local, name), devices=self.devices, host=local)
        return RayPlacer(
            self.ray,
            lambda name: arguments(HOST, name),
            namespace=self.namespace,
            gpus=self.gpus,
            cpus=self.cpus,
            labels=self.labels,
        )


def placing_of(args: argparse.Namespace, where: Listen, others: Sequence[str]) -> Placing | None:
    """`others` are options of `psistream worker`. Raises InvalidInput, Unavailable."""
    if args.workers is None:
        check_belongs(args, "--workers", *OF_PLACING)
        if others:
            raise InvalidInput(
                f"unrecognized arguments: {' '.join(others)}; options of workers need --workers (see "
                "psistream cluster up --help)"
            )
        return None
    labels = dict(map(_label, args.host_label))
    _check(args, where)
    return Placing(
        workers=args.workers,
        options=tuple(_options(args, where, others)),
        advertise=args.advertise,
        ray=args.ray,
        namespace=args.namespace,
        gpus=args.gpus_per_worker,
        cpus=args.cpus_per_worker,
        labels=labels,
        start_s=args.start_limit,
        devices=gpus() if args.ray is None and args.gpus_per_worker else (),
    )


def _check(args: argparse.Namespace, where: Listen) -> None:
    """Raises InvalidInput."""
    if args.ray is None:
        check_belongs(args, "--ray", "host_label", "namespace", "cpus_per_worker")
    if (args.worker_tls_cert is None) != (args.worker_tls_key is None):
        raise InvalidInput(
            "--worker-tls-cert and --worker-tls-key belong together: give both or none",
            field="worker_tls_cert",
        )
    if not 0 <= args.workers <= MAX_PLACED:
        raise InvalidInput(f"--workers must be 0 to {MAX_PLACED}, not {args.workers}", field="workers")
    for name in ("gpus_per_worker", "cpus_per_worker"):
        if not 0 <= getattr(args, name) <= 1024:
            option = "--" + name.replace("_", "-")
            raise InvalidInput(f"{option} must be 0 or a positive number, up to 1024", field=name)
    if args.ray is None and args.gpus_per_worker not in (0, 1):
        raise InvalidInput(
            "--gpus-per-worker must be 0 or 1 without --ray: a worker on this machine has a GPU to itself",
            field="gpus_per_worker",
        )
    if not 1 <= args.start_limit <= 86400:
        raise InvalidInput("--start-limit must be 1 to 86400 seconds", field="start_limit")
    if args.advertise is not None:
        host_and_port(args.advertise, "--advertise")
    elif is_wildcard(where.host):
        raise InvalidInput(
            f"--listen {where.host} does not say where workers reach the directory: give --advertise, such "
            "as 10.0.0.5:7700",
            field="advertise",
        )
    if args.ray not in (None, "auto"):
        host_and_port(args.ray, "--ray")
    if args.ray is not None and not where.key:
        raise InvalidInput(
            f"workers on Ray listen on their hosts' addresses: give --key-file; {MAKE_ONE} > cluster.key",
            field="key_file",
        )


def _options(args: argparse.Namespace, where: Listen, others: Sequence[str]) -> list[str]:
    """The workers' options, checked here, with paths that mean the same in another folder. On Ray the files
    are on other hosts, so each worker checks its own. Raises InvalidInput, ModelFilesError."""
    for each in others:
        if each.partition("=")[0] in OURS:
            raise InvalidInput(f"{each.partition('=')[0]} of the workers is set by `psistream cluster up`")
    options = list(others)
    for name, option in (
        ("key_file", "--key-file"),
        ("worker_tls_cert", "--tls-cert"),
        ("worker_tls_key", "--tls-key"),
    ):
        if (given := getattr(args, name)) is not None:
            options += [option, str(given)]
    options += ["--log-format", args.log_format, "--log-level", args.log_level]
    if args.ray is not None or not args.workers:
        checked_config(_parsed(["--listen", "127.0.0.1:0", *options]))
    else:
        url = _reached_at(where.url(1), args.advertise)
        check_before_start(_parsed([*_starts(url, host_of(url), "w"), *options]))
    return list(_absolute(options))


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    """As `psistream worker` does, but without abbreviations: --nam could not be told from others' --name, nor
    --key from the directory's own --key-file."""
    parser = worker_parser()
    parser.allow_abbrev = False
    return parser.parse_args(words)


def _starts(directory: str, host: str, name: str) -> tuple[str, ...]:
    """The options that a worker gets from its placer."""
    return "--listen", f"{host}:0", "--on-host", host, "--join", directory, "--name", name


def _reached_at(url: str, advertise: str | None) -> str:
    """Where workers reach the directory that listens at `url`."""
    return url if advertise is None else f"{url.partition('://')[0]}://{advertise}"


def host_of(url: str) -> str:
    return url.partition("://")[2].rpartition(":")[0]


def _absolute(options: Sequence[str]) -> Iterator[str]:
    """A model may also have a name."""
    before = ""
    for each in options:
        option, equals, value = each.partition("=")
        if before in FILES and os.path.exists(each):
            yield os.path.abspath(each)
        elif equals and option in FILES and os.path.exists(value):
            yield f"{option}={os.path.abspath(value)}"
        else:
            yield each
        before = each


def _label(text: str) -> tuple[str, str]:
    key, found, value = text.partition("=")
    if not (found and key and value):
        raise InvalidInput(f"--host-label must look like gpu=h100, not {text!r:.60}", field="host_label")
    return key, value


def new_name() -> str:
    """Of a worker, never used before: one that was lost may come back."""
    return "w" + "".join(secrets.choice(LETTERS) for _ in range(6))
