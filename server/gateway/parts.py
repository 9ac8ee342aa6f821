"""The parts of a gateway, and who knows whom among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from server.cluster.peers import Peers
from server.config import ServerConfig
from server.control.base import Steering
from server.gateway.adoption import Adoption
from server.gateway.balance.balancer import Balancer
from server.gateway.budget import Budgets
from server.gateway.care import SessionCare, WorkerCare
from server.gateway.cluster.joined import Joined
from server.gateway.cluster.roster_workers import RosterWorkers
from server.gateway.events import Events
from server.gateway.exporting.exports import Exports
from server.gateway.exporting.snapshots import Snapshots
from server.gateway.failover import Failover
from server.gateway.fleet.encoders import Encoders
from server.gateway.fleet.fleet import Fleet
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.guests.guests import Guests
from server.gateway.guests.news import GuestNews
from server.gateway.migration import Migration
from server.gateway.opening import Opener
from server.gateway.records.records import Records
from server.gateway.registry import Sessions
from server.gateway.storage.outside import Outside
from server.gateway.throttle import Throttle
from server.gateway.upkeep import Upkeep
from server.metrics import Metrics
from server.worker.base import MakeWorker


class Parts:
    """Built from those that know nobody to those that know many. `steering` is the gateway itself, as control
    channels see it; `supervise` makes who keeps a worker running. `joined` is None without a directory."""

    def __init__(
        self,
        config: ServerConfig,
        workers: Sequence[Supervisor],
        metrics: Metrics,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        steering: Steering,
        supervise: Callable[[str, MakeWorker], Supervisor],
    ) -> None:
        self.peers = Peers(config.name, config.worker_key, clock)
        budgets = Budgets(config.client_sessions, config.client_device_s, clock)
        self.sessions = Sessions(budgets, metrics, clock)
        self.fleet = Fleet(workers, self.sessions, patient=config.placement == "remote")
        self.sessions.on_end = self.fleet.ending.session_ended
        self.encoders = Encoders(self.fleet, config.worker.media.codecs)
        self.exports = Exports(self.sessions, self.fleet)
        self.records = Records(self.sessions, wall_clock)
        self.failover = Failover(
            self.sessions, self.fleet, self.records, metrics, config.worker.runtime.idle_grace_s
        )
        throttle = Throttle(self.sessions, self.fleet)
        self.snapshots = Snapshots(self.sessions, self.exports, metrics, config.snapshot_every_s)
        self.migration = Migration(self.sessions, self.fleet, self.exports, self.failover, metrics)
        self.opener = Opener(config, self.sessions, self.fleet, self.exports, metrics, self.peers)
        self.guests = Guests(
            self.sessions, self.fleet, self.opener, self.records, shared=config.trusts_machine
        )
        if not self.peers:  # with a directory the roster says who has it
            self.opener.main_elsewhere = self.guests.shows_main
        self.adoption = Adoption(
            self.sessions, self.fleet, self.opener, self.failover, self.records, self.guests
        )
        self.guest_news = GuestNews(self.guests, self.sessions, steering, metrics, self.adoption.orphaned)
        self.events = Events(
            self.sessions,
            self.exports,
            self.snapshots,
            throttle,
            self.failover,
            self.adoption,
            self.encoders,
            metrics,
        )
        self.worker_care = WorkerCare(
            config, self.sessions, self.fleet, self.exports, self.failover, self.opener, self.guests
        )
        self.upkeep = Upkeep(
            self.sessions,
            self.fleet,
            self.worker_care,
            SessionCare(config, self.sessions, throttle, self.snapshots, self.opener),
            self.adoption,
            self.records,
            Balancer(self.sessions, self.fleet, self.migration),
        )
        self.outside = Outside(
            config,
            self.sessions,
            self.fleet,
            self.failover,
            self.opener,
            self.records,
            metrics,
            self.peers,
        )
        self.joined: Joined | None = None
        if config.join is not None:
            workers_of_roster = RosterWorkers(
                config, self.fleet, self.migration, supervise, self.sessions.now_s
            )
            joined = self.joined = Joined(
                config,
                self.sessions,
                self.fleet,
                workers_of_roster,
                self.migration,
                self.opener,
                self.adoption,
                self.records,
                self.peers,
            )
            metrics.directory.set_function(lambda: float(joined.reached))
