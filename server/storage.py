"""The option that keeps sessions outside of gateway and workers: where, how often and for how long."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from engine.commandline.parser import check_belongs, given
from engine.errors import InvalidInput

Scheme = Literal["file", "redis", "rediss", "s3"]
EXAMPLES = "file:///var/lib/psistream, redis://host:6379/0 or s3://bucket/folder"
VARIABLE = "PSISTREAM_SNAPSHOTS"
EVERY_S, KEEP_H = 15.0, 24.0
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True)
class StorageConfig:
    """`url` may have a password. A session is saved every `every_s` seconds if it has changed, and deleted
    `keep_h` hours after it was saved last."""

    url: str = field(repr=False)
    every_s: float = EVERY_S
    keep_h: float = KEEP_H

    def __post_init__(self) -> None:
        if not 1 <= self.every_s <= 3600:
            raise InvalidInput("--snapshots-every must be 1 to 3600 seconds", field="snapshots_every")
        if not 0.1 <= self.keep_h <= 24 * 365:
            raise InvalidInput("--snapshots-keep must be 0.1 to 8760 hours", field="snapshots_keep")
        _ = self.scheme

    @property
    def keep_s(self) -> float:
        return self.keep_h * 3600

    @property
    def scheme(self) -> Scheme:
        """Raises InvalidInput."""
        try:
            parts = urlsplit(self.url)
            port_fine = parts.port != 0
        except ValueError:
            raise _invalid(f"has no valid port; write {EXAMPLES}") from None
        if parts.fragment or (parts.query and parts.scheme not in ("redis", "rediss")):
            raise _invalid("may have no ? and # (in the name of a folder write %3F and %23)")
        match parts.scheme:
            case "file" if parts.netloc or not parts.path.startswith("/") or parts.path == "/":
                raise _invalid("needs an absolute folder after file://, such as file:///var/lib/psistream")
            case "redis" | "rediss" if not (parts.hostname and port_fine):
                raise _invalid("needs a host, such as redis://host:6379/0")
            case "redis" | "rediss" if not re.fullmatch(r"/?|/[0-9]{1,3}", parts.path):
                raise _invalid("ends with the number of the database, such as redis://host:6379/0")
            case "s3" if not BUCKET.fullmatch(parts.netloc):
                raise _invalid("needs a bucket, such as s3://bucket/folder")
            case "file" | "redis" | "rediss" | "s3":
                return parts.scheme
        raise _invalid(f"does not know {parts.scheme[:20] or 'a URL without a scheme'}: write {EXAMPLES}")

    @property
    def folder(self) -> Path | None:
        """Of file://."""
        return Path(unquote(urlsplit(self.url).path)) if self.scheme == "file" else None

    @property
    def shown(self) -> str:
        """The URL without its password."""
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def add_snapshots(add: Callable[..., object]) -> None:
    add(
        "--snapshots",
        metavar="URL",
        default=os.environ.get(VARIABLE),
        help=f"keep sessions there and resume them at the next start: {EXAMPLES} (${VARIABLE})",
    )
    add(
        "--snapshots-every",
        type=float,
        metavar="S",
        help=f"save a session every S seconds if it has changed (default: {EVERY_S:g})",
    )
    add(
        "--snapshots-keep",
        type=float,
        metavar="HOURS",
        help=f"forget a session that was saved this long ago (default: {KEEP_H:g})",
    )


def storage_of(args: argparse.Namespace) -> StorageConfig | None:
    """Raises InvalidInput."""
    if given(args, "snapshots") and not args.snapshots:
        raise _invalid(f"is empty: write {EXAMPLES}, or leave it out")
    if not args.snapshots:
        check_belongs(args, "--snapshots", "snapshots_every", "snapshots_keep")
        return None
    every_s = EVERY_S if args.snapshots_every is None else args.snapshots_every
    keep_h = KEEP_H if args.snapshots_keep is None else args.snapshots_keep
    return StorageConfig(args.snapshots, every_s, keep_h)


def _invalid(text: str) -> InvalidInput:
    return InvalidInput(f"--snapshots {text}", field="snapshots")
