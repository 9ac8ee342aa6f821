"""How the workers of a server are made, wherever they are to run."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from server.config import ServerConfig
from server.worker.base import MakeWorker


def worker_makers(config: ServerConfig) -> list[MakeWorker]:
    """One factory per worker, in the configured placement, with its own GPU if GPUs are configured."""
    gpus = config.devices or (None,)
    settings = [replace(config.worker, gpu=gpus[n % len(gpus)]) for n in range(config.workers)]
    if config.placement == "thread":
        from server.worker.thread import InProcessWorker

        return [partial(InProcessWorker, each) for each in settings]
    if config.join is not None:
        return []  # they come and go: see server.gateway.cluster
    if config.placement == "remote":
        from server.worker.remote import RemoteWorker, WorkerAddress

        where = [WorkerAddress.parse(each) for each in config.remotes]
        return [partial(RemoteWorker, each, config.worker_key, config.worker_ca) for each in where]
    from server.worker.process import ProcessWorker

    return [partial(ProcessWorker, each) for each in settings]
