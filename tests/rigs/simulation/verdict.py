"""What must be true of a simulated cluster once it has been left alone for a while."""

from __future__ import annotations

from engine.types import Receipt, SessionClosed, SessionInfo
from server.gateway.failover import CULPRIT, GAVE_UP
from server.gateway.session import MAIN, GatewaySession
from tests.rigs.simulation import limits
from tests.rigs.simulation.clients import CLOSED, OPEN, PERHAPS, Clients
from tests.rigs.simulation.cluster import Node, SimulatedCluster


def owners_of(cluster: SimulatedCluster, name: str) -> list[tuple[Node, GatewaySession]]:
    found = [(node, node.gateway.sessions.get(name)) for node in cluster.gateways if node.gateway]
    return [(node, session) for node, session in found if session is not None and session.opened.done()]


def copies_of(cluster: SimulatedCluster, name: str) -> list[Node]:
    return [node for node in cluster.workers if node.device is not None and name in node.device.copies]


def epoch_of(cluster: SimulatedCluster, name: str) -> int:
    """The highest epoch of the session at any gateway or worker; -1: it is nowhere."""
    epochs = [session.lease_epoch for _, session in owners_of(cluster, name)]
    for node in copies_of(cluster, name):
        assert node.host is not None
        lease = node.host.mail.leases.get(name)
        epochs.append(lease.epoch if lease is not None else 0)
    return max(epochs, default=-1)


def faults(cluster: SimulatedCluster, clients: Clients) -> list[str]:
    places = any(node.device is not None and node.device.has_place for node in cluster.workers)
    found = _session(cluster, MAIN, OPEN if places else PERHAPS)  # if it is lost, another one is opened
    for name, fate in clients.fates.items():
        found += _session(cluster, name, PERHAPS if _may_end(cluster, name) and fate == OPEN else fate)
    found += _effects(cluster, clients)
    found += limits.faults(cluster)
    for node in cluster.workers:
        found += _worker(node, clients)
    for node in cluster.gateways:
        found += _gateway(cluster, node, clients)
    found += [
        f"{sent.at.name}: {sent.control} to {sent.session} has no receipt"
        for sent in clients.unanswered_controls()
    ]
    return found


def _may_end(cluster: SimulatedCluster, name: str) -> bool:
    """Whether it was ended for a reason that is documented."""
    why = (CULPRIT, GAVE_UP) if name in cluster.effects.forks else (CULPRIT,)
    blamed = any(
        isinstance(event, SessionClosed) and event.session == name and event.message in why
        for node in cluster.gateways
        for event in node.heard
    )
    return blamed or name in cluster.over or _waits(cluster, name)


def _waits(cluster: SimulatedCluster, name: str) -> bool:
    """Whether it is in the store, and there is no place for it."""
    devices = [node.device for node in cluster.workers if node.device is not None]
    return cluster.kept(name) and all(len(each.copies) >= each.limits.places for each in devices)


def _session(cluster: SimulatedCluster, name: str, fate: str) -> list[str]:
    owners, copies = owners_of(cluster, name), copies_of(cluster, name)
    where = f"owners {[node.name for node, _ in owners]}, copies {[node.name for node in copies]}"
    if fate == CLOSED and (owners or copies):
        return [f"{name} was closed, but there are {where}"]
    if fate != OPEN and not owners and not copies:
        return []
    if len(owners) != 1 or len(copies) != 1:
        return [f"{name} ({fate}) has {where}"]
    (node, session), copy = owners[0], copies[0]
    assert copy.host is not None
    lease = copy.host.mail.leases.get(name)
    holder = getattr(getattr(lease.owner, "_transport", None), "peer", None) if lease is not None else None
    if session.worker != copy.name or session.orphaned or lease is None or lease.stage:
        return [f"{name}: {node.name} has it in {session.worker}, orphaned {session.orphaned}; {where}"]
    if holder is None or holder.process is not node.process or lease.epoch != session.lease_epoch:
        return [f"{name}: {node.name} has epoch {session.lease_epoch}, its worker {lease.epoch}"]
    return []


def _effects(cluster: SimulatedCluster, clients: Clients) -> list[str]:
    """What became of the controls of sessions that gateways show, by what these heard."""
    found = []
    for name in clients.fates:
        copies = copies_of(cluster, name)
        if len(copies) != 1 or copies[0].device is None:
            continue
        copy, heard = copies[0].device.copies[name], []
        for node in cluster.gateways:
            told = [e for e in node.heard if getattr(e, "session", None) == name]
            if node.gateway is not None and not any(isinstance(e, SessionClosed) for e in told):
                heard.append(_answers(node, name))
        found += cluster.effects.faults(name, copy.line, copy.effects, heard)
    return found


def _answers(node: Node, session: str) -> list[Receipt]:
    """The final receipts, but those of frames that were lost since: such controls may be sent again."""
    found: list[Receipt] = []
    lost: tuple[int, ...] = ()
    for event in node.heard:
        if isinstance(event, Receipt) and event.session == session and event.status != "received":
            found.append(event)
        elif isinstance(event, SessionInfo) and event.id == session and event.lost_frames != lost:
            lost = event.lost_frames
            found = [each for each in found if not lost or each.frame not in range(*lost)]
    return found


def _worker(node: Node, clients: Clients) -> list[str]:
    if node.host is None or node.device is None:
        return [f"{node.name} does not run"]
    found, leases = [], {lease.session for lease in node.host.mail.leases}
    if leases != node.device.copies.keys():
        found.append(f"{node.name} has leases of {sorted(leases)} and runs {sorted(node.device.copies)}")
    if node.host.mail.waiting:
        found.append(f"{node.name}: orders wait for {sorted(node.host.mail.waiting)}")
    for name in node.device.copies.keys() - clients.fates.keys():
        if name.split("-")[0] not in clients.forgotten and name != MAIN:
            found.append(f"{node.name} runs {name}, which nobody opened")
    return found


def _gateway(cluster: SimulatedCluster, node: Node, clients: Clients) -> list[str]:
    gateway = node.gateway
    if gateway is None:
        return [] if node.lost else [f"{node.name} does not run"]
    found = []
    if claims := gateway.parts.adoption._claims:
        found.append(f"{node.name} waits for claims of {sorted(claims)}")
    for guest in gateway.guests.all():
        where = [copy.name for copy in copies_of(cluster, guest.session.id)]
        if guest.worker is None or where != [guest.worker.name]:
            found.append(f"{node.name} is guest of {guest.session.id} at {guest.worker}, which is at {where}")
    for seen, _ in clients.viewers:
        session = seen.session
        if seen.at is node and seen.run == node.runs and not session.fanout.closed:
            shown = gateway.guests.of(session.id)
            if session is not gateway.sessions.get(session.id) and session is not (shown and shown.session):
                found.append(f"{node.name}: viewers of {session.id} are forgotten")
    return found
