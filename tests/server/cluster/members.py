"""Members of a directory, as its tables see them."""

from __future__ import annotations

from server.cluster.messages import GatewayReport, JoinGateway, JoinWorker, WorkerReport
from server.cluster.tables import Tables
from tests.rigs.engine.fakes import ManualClock

W1 = JoinWorker("w1", "tcp://10.0.0.7:7070", "host-a", instance="1")
W2 = JoinWorker("w2", "tcp://10.0.0.8:7070", "host-b", instance="2")
G1 = JoinGateway("g1", "http://10.0.0.5:8080", "3")
G2 = JoinGateway("g2", "http://10.0.0.6:8080", "4")


class Directory:
    """Tables whose members report as long as they are named."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.tables = Tables(self.clock)
        self.reports: dict[str, GatewayReport | WorkerReport] = {}

    def join(self, *joins: JoinWorker | JoinGateway) -> None:
        for message in joins:
            self.tables.join(message.name, message)
            report = WorkerReport if isinstance(message, JoinWorker) else GatewayReport
            self.reports[message.name] = report()

    def passes(self, seconds: float) -> list[object]:
        closed: list[object] = []
        for _ in range(round(4 * seconds)):
            self.clock.advance(0.25)
            for name, report in self.reports.items():
                self.tables.report(name, report)
            closed += self.tables.look()
        return closed

    @property
    def names(self) -> list[str]:
        roster = self.tables.roster()
        return [w.name for w in roster.workers] + [g.name for g in roster.gateways]


def four() -> Directory:
    made = Directory()
    made.join(W1, W2, G1, G2)
    return made
