"""`psistream bench fleet`: a large fleet, simulated with the product's own admission, placement and failover
policy, on figures that were measured on one machine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields

from benchmarks.arguments import counts
from benchmarks.fleet.cost import SIZES, policy_costs
from benchmarks.fleet.figures import FleetChoice, FleetFigures, sourced
from benchmarks.fleet.simulation import Simulation
from benchmarks.fleet.stand_ins import SimulatedDevice
from benchmarks.machine import description
from benchmarks.report import BenchReport
from engine.backends.fake import FAKE_SPEC
from engine.config import RuntimeConfig
from engine.errors import InvalidInput
from server.config import MAX_WORKERS


def add_arguments(p: argparse.ArgumentParser, load: argparse.ArgumentParser) -> None:
    """The options of `psistream bench fleet`, without --pretend and --json, and --workers of `bench load`."""
    load.add_argument(
        "--workers", type=counts, metavar="1,2,…", help="a gateway with so many workers on pretended devices"
    )
    d = FleetChoice()
    p.add_argument("--gpus", type=int, default=d.gpus, help="workers, one per GPU (%(default)s)")
    p.add_argument("--sessions", type=int, default=d.sessions, help="open sessions (%(default)s)")
    p.add_argument("--gateways", type=int, default=d.gateways, help="that share the workers (%(default)s)")
    p.add_argument("--racks", type=int, default=d.racks, help="one of them is lost (%(default)s)")
    p.add_argument("--spares", type=int, default=d.spares, help="GPUs that replace lost ones (%(default)s)")
    p.add_argument(
        "--layout",
        choices=("spread", "near"),
        default=d.layout,
        help="a gateway's workers stand in different racks, or beside each other (%(default)s)",
    )
    p.add_argument(
        "--seconds", type=float, default=d.seconds, help="the rack is lost after a third (%(default)s)"
    )
    p.add_argument(
        "--noticed",
        dest="noticed_s",
        type=float,
        default=d.noticed_s,
        metavar="S",
        help="silence after which a worker is lost (%(default)s)",
    )
    p.add_argument("--playing", type=float, default=d.playing, help="share that is watched (%(default)s)")
    p.add_argument("--seed", type=int, default=d.seed, help="(%(default)s)")


def choice_of(args: argparse.Namespace) -> FleetChoice:
    """Raises InvalidInput."""
    told = {f.name: getattr(args, f.name) for f in fields(FleetChoice) if hasattr(args, f.name)}
    if args.pretend is not None:
        told["call_ms"], told["row_ms"] = args.pretend
    return FleetChoice(**told)


def check_fleet(args: argparse.Namespace) -> None:
    """Raises InvalidInput."""
    if args.what == "fleet":
        choice_of(args)
    if args.what == "load" and args.workers is not None and args.workers[-1] > MAX_WORKERS:
        raise InvalidInput(f"--workers must be at most {MAX_WORKERS}", field="workers")


def measure_fleet(args: argparse.Namespace) -> BenchReport:
    """Raises PsistreamError."""
    if args.what == "load":
        from benchmarks.fleet.load import measure as measure_workers

        return measure_workers(args.workers, args.pretend, args.seconds)
    return measure(choice_of(args))


def measure(
    choice: FleetChoice,
    figures: FleetFigures | None = None,
    costs: Sequence[tuple[int, int]] = SIZES,
) -> BenchReport:
    """`costs` are the sizes at which the policy's processor time is measured."""
    figures = figures or FleetFigures()
    config = RuntimeConfig(max_sessions=choice.max_sessions)
    device = SimulatedDevice(FAKE_SPEC, choice.call_ms / 1000, choice.row_ms / 1000, config)
    simulation = Simulation(choice, device, figures)
    life = simulation.run()
    settings = {f.name: getattr(choice, f.name) for f in fields(choice)}
    report = BenchReport("fleet", description(), settings)
    report.series["simulated: opening a session"] = [1000 * s for s in life.placed_s]
    report.series["simulated: rack lost to picture again"] = [1000 * s for s in life.picture_s]
    one, gateways = report.singles, simulation.gateways
    tried = max(1, life.opened + life.refused + life.opened_on_dead)
    asked = sum(gateway.asked for gateway in gateways)
    bytes_per_s = [gateway.snapshot_bytes_per_s for gateway in gateways]
    one["real-time capacity of a GPU (computed by the product)"] = (device.capacity, "sessions")
    one["sessions admitted at the start"] = (life.preloaded, "")
    one["openings"] = (tried, "")
    one["of these at a second or third gateway"] = (round(100 * life.elsewhere / tried, 2), "%")
    one["of these refused by all that were asked"] = (round(100 * life.refused / tried, 2), "%")
    one["of these sent to a dead worker"] = (round(100 * life.opened_on_dead / tried, 2), "%")
    one["workers asked per opening"] = (round(asked / tried, 3), "")
    one["workers lost with the rack"] = (life.workers_lost, "")
    one["sessions on them"] = (life.sessions_lost, "")
    one["of these watched"] = (life.watched_lost, "")
    one["watched sessions continued in running workers"] = (life.restored_at_once, "")
    one["workers replaced on spare GPUs"] = (life.replaced_workers, "")
    one["sessions still waiting for a worker at the end"] = (life.waiting, "")
    one["fullest worker at the end, of its real-time capacity"] = (round(100 * life.peak_share, 1), "%")
    one["snapshots, all gateways"] = (round(8 * sum(bytes_per_s) / 1e9, 2), "Gb/s")
    one["snapshots, busiest gateway"] = (round(max(bytes_per_s) / 1e6, 2), "MB/s")
    one["oldest snapshot when a worker is lost"] = (round(max(g.snapshot_age_s for g in gateways), 1), "s")
    busiest = max(gateway.cores for gateway in gateways)
    one["busiest gateway, packets and one viewer per session"] = (round(busiest, 2), "cores")
    report.tables["measured here: the gateway's policy, processor time"] = policy_costs(device, costs)
    report.tables["figures of the simulation"] = list(sourced(figures))
    report.notes.append(
        "Simulated: no GPU, no process and no network. Fleet, Failover and Admission are the product's own; "
        "everything between them is a model. Only the table of the policy's processor time was measured."
    )
    return report
