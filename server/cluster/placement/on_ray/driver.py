"""The only process that is a driver of Ray, and the only module that imports it: a child of the placer.

Lines of JSON come in at its standard input and are answered, in order, at its standard output. Whoever
started it kills it when an answer takes too long: many calls of Ray have no time limit, and Ray itself ends
a driver whose head is gone for long. Detached actors outlive it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

import ray
from ray._private.state import state
from ray._raylet import GcsClient
from ray.core.generated.autoscaler_pb2 import DrainNodeReason
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from server.cluster.placement.base import PlacedStage, PlacedWorker, PlacementHost, Survey
from server.cluster.placement.on_ray.actor import WorkerActor
from server.cluster.placement.on_ray.settings import NAMES
from server.cluster.placement.tie import end_with

LONG_POLL_S = 60.0
PROBE_S = 20.0
KEEP_DEAD_S = 600.0  # how long an ended worker is shown
HEAD = "node:__internal_head__"
NODE_ID = "ray.io/node-id"
STAGES = {"ALIVE": PlacedStage.RUNNING, "DEAD": PlacedStage.ENDED}  # others are pending


@dataclass(frozen=True)
class Needs:
    """What a worker needs of a host. `labels` are Ray's, such as gpu=h100."""

    gpus: float = 1.0
    cpus: float = 1.0
    labels: Mapping[str, str] | None = None


class Driver:
    """`address` is the head's HOST:PORT, or auto. Workers of other namespaces are not touched."""

    def __init__(self, address: str, namespace: str, needs: Needs) -> None:
        ray.init(
            address, namespace=namespace, log_to_driver=False, logging_level="error", configure_logging=False
        )
        self._needs = needs
        self._gcs = GcsClient(address=ray.get_runtime_context().gcs_address)
        self._ends: dict[str, Any] = {}  # by worker: the pending answer to `ended`
        self._why: dict[str, str] = {}  # of workers whose process has ended while its actor lives

    def settings(self) -> dict[str, str | None]:
        """The environment in which Ray's head was started, as far as it matters here."""
        head = next(node["NodeID"] for node in ray.nodes() if node["Alive"] and HEAD in node["Resources"])
        names = (*NAMES, "RAY_REDIS_ADDRESS", "RAY_gcs_storage")
        probe = ray.remote(_environment).options(
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(head, soft=False)
        )
        found: dict[str, str | None] = ray.get(probe.remote(names), timeout=PROBE_S)
        return found

    def survey(self) -> Survey:
        nodes = ray.nodes()
        address = {node["NodeID"]: str(node["NodeManagerAddress"]) for node in nodes}
        draining = state.get_draining_nodes()
        available = state.available_resources_per_node()
        hosts: dict[str, PlacementHost] = {}
        for node in sorted(nodes, key=lambda node: bool(node["Alive"])):  # a host may have been there before
            name = address[node["NodeID"]]
            before, alive = hosts.get(name), bool(node["Alive"])
            free = self._fits(available.get(node["NodeID"], {})) if alive else 0
            both = before is not None and before.alive
            hosts[name] = PlacementHost(
                name, alive, node["NodeID"] in draining, free + (before.free if before and both else 0)
            )
        return Survey(self._workers(address), hosts)

    def _workers(self, address: Mapping[str, str]) -> dict[str, PlacedWorker]:
        own = set(ray.util.list_named_actors())
        self._listen(own)
        workers: dict[str, PlacedWorker] = {}
        now_s = time.time()
        for actor in state.actor_table(None).values():
            name, stage = actor["Name"], STAGES.get(actor["State"], PlacedStage.PENDING)
            dead = stage is PlacedStage.ENDED
            if actor["ActorClassName"] != WorkerActor.__name__ or not (dead or name in own):
                continue
            if dead and (name not in self._ends or now_s - actor["EndTime"] / 1000 > KEEP_DEAD_S):
                continue
            why = _cause(actor["DeathCause"]) if dead else self._why.get(name, "")
            if stage is PlacedStage.PENDING:
                why = self._missing()
            elif why:
                stage = PlacedStage.ENDED
            host = "" if stage is PlacedStage.PENDING else address.get(actor["Address"]["NodeID"], "")
            workers[name] = PlacedWorker(name, stage, host, why)
        return workers

    def _listen(self, names: set[str]) -> None:
        """Keep a question open at each actor that says when its worker has ended."""
        for name in names - self._ends.keys():
            self._ask(name)
        if not self._ends:
            return
        answered, _ = ray.wait(list(self._ends.values()), num_returns=len(self._ends), timeout=0)
        for name, answer in list(self._ends.items()):
            if answer not in answered or name in self._why:
                continue
            try:
                why = ray.get(answer, timeout=PROBE_S)
            except ray.exceptions.RayError:
                continue  # the table of actors says why
            if why:
                self._why[name] = why
            else:
                self._ask(name)

    def _ask(self, name: str) -> None:
        try:
            self._ends[name] = ray.get_actor(name).ended.remote(LONG_POLL_S)
        except ValueError:  # it has just ended
            return

    def _missing(self) -> str:
        if self._needs.gpus:
            return f"no GPU free on a host that may be used ({self._needs.gpus:g} needed)"
        return f"no host that may be used has {self._needs.cpus:g} processors free"

    def _fits(self, available: Mapping[str, float]) -> int:
        counts = [
            int(available.get(kind, 0.0) / need)
            for kind, need in (("GPU", self._needs.gpus), ("CPU", self._needs.cpus))
            if need
        ]
        return min(counts, default=1)

    def place(self, name: str, arguments: list[str], avoid: list[str]) -> None:
        known = [node["NodeID"] for node in ray.nodes() if node["NodeManagerAddress"] in avoid]
        selector = dict(self._needs.labels or {})
        if known:
            selector[NODE_ID] = f"!in({','.join(known)})"
        actor = ray.remote(WorkerActor).options(
            name=name,
            lifetime="detached",  # it outlives this process, its placer and the head
            num_gpus=self._needs.gpus,
            num_cpus=self._needs.cpus,
            max_restarts=0,  # a restarted one would be empty, and where is ours to decide
            max_task_retries=0,
            label_selector=selector,
            scheduling_strategy="SPREAD",
        )
        self._ends[name] = actor.remote(arguments).ended.remote(LONG_POLL_S)

    def kill(self, name: str) -> None:
        try:
            ray.kill(ray.get_actor(name), no_restart=True)
        except ValueError:
            return  # there is none

    def leave(self, host: str) -> None:
        found = [node for node in ray.nodes() if node["Alive"] and node["NodeManagerAddress"] == host]
        if not found:
            raise LookupError(f"Ray has no host {host} that lives")
        if any(HEAD in node["Resources"] for node in found):
            raise LookupError(f"Ray's head is on {host}")
        for node in found:
            reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
            accepted, why = self._gcs.drain_node(node["NodeID"], reason, "psistream cluster drain", 0)
            if not accepted:
                raise LookupError(f"Ray does not drain {host}: {why}")


def _environment(names: tuple[str, ...]) -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in names}


def _cause(death: Any) -> str:
    """Of an actor, from Ray's message."""
    text = str(death)
    _, found, rest = text.partition('error_message: "')
    said = rest.partition('"\n')[0].replace("\\n", " ").replace('\\"', '"') if found else text
    return " ".join(said.split())


def main() -> NoReturn:
    end_with(int(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what Ray prints is no answer
    driver: Driver | None = None

    def connect(address: str, namespace: str, needs: dict[str, Any]) -> None:
        nonlocal driver
        driver = Driver(address, namespace, Needs(**needs))

    for line in sys.stdin:
        asked = json.loads(line)
        verb: Callable[..., Any] = connect if asked["verb"] == "connect" else getattr(driver, asked["verb"])
        try:
            answer: dict[str, Any] = {"ok": verb(**asked["given"])}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer, default=asdict) + "\n")
        answers.flush()
    os._exit(0)  # without the seconds that Ray takes to say good-bye


if __name__ == "__main__":
    main()
