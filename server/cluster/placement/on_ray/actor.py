"""What Ray runs on a host: an actor that keeps one `psistream worker` as its child.

The worker is the ordinary one. It joins the directory by itself, so no packet passes Ray. Arguments and paths
are those of the host where it runs.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

from server.cluster.placement.keeper import Keeper, environment_of_child

HOST = "HOST"  # in an argument: the address that Ray knows this host by


class WorkerActor:
    def __init__(self, arguments: Sequence[str], address: str | None = None) -> None:
        if address is None:
            import ray.util

            address = ray.util.get_node_ip_address()
        told = [each.replace(HOST, address) for each in arguments]
        self._keeper = Keeper(told, environment_of_child(os.environ), sys.stderr)

    async def ended(self, within_s: float) -> str:
        """What has ended the worker; empty if it still runs after `within_s` seconds."""
        await asyncio.to_thread(self._keeper.wait, within_s)
        return self._keeper.why if self._keeper.ended else ""

    async def pid(self) -> int | None:
        return self._keeper.pid
