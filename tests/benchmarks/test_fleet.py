"""The simulated fleet: it runs the product's policy, repeats itself, and loses nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cli import main
from benchmarks.fleet.bench import measure
from benchmarks.fleet.figures import SOURCES, FleetChoice, FleetFigures
from benchmarks.fleet.load import MOST, play_fleet
from benchmarks.fleet.simulation import Simulation
from benchmarks.fleet.stand_ins import SimulatedDevice
from engine.backends.fake import FAKE_SPEC
from engine.config import RuntimeConfig
from engine.errors import InvalidInput
from server.config import MediaConfig, ServerConfig, WorkerConfig

SMALL = FleetChoice(gpus=20, sessions=1000, gateways=4, racks=5, seconds=20.0, noticed_s=6.0)


def simulated(choice: FleetChoice) -> Simulation:
    config = RuntimeConfig(max_sessions=choice.max_sessions)
    simulation = Simulation(choice, SimulatedDevice(FAKE_SPEC, 0.005, 0.0007, config), FleetFigures())
    simulation.run()
    return simulation


def reported(choice: FleetChoice) -> dict[str, Any]:
    """The report, without what was measured."""
    made = measure(choice, costs=()).to_json()
    return {key: made[key] for key in ("settings", "ms", "figures")}


def test_the_same_seed_gives_the_same_life() -> None:
    assert reported(SMALL) == reported(SMALL)
    assert reported(SMALL) != reported(replace(SMALL, seed=1))


def test_the_sessions_of_a_lost_rack_continue_in_the_other_racks() -> None:
    """A gateway's five workers stand in five racks, so every gateway loses one, and has room in four."""
    simulation = simulated(SMALL)
    life = simulation.life
    assert (life.workers_lost, life.waiting) == (4, 0)
    assert life.restored_at_once == len(life.picture_s) > 0
    assert all(6.0 < seconds < 8.0 for seconds in life.picture_s)
    for gateway in simulation.gateways:
        (gone,) = (worker for worker in gateway.workers if worker.dead)
        assert gateway.sessions.of(gone.name) == []


def test_a_gateway_whose_workers_stand_in_one_rack_has_nowhere_to_go_without_spares() -> None:
    """Its sessions wait; with spare GPUs they continue once those run the model."""
    near = replace(SMALL, gateways=5, layout="near")
    without, some = simulated(near).life, simulated(replace(near, spares=4)).life
    assert without.picture_s == []
    assert 0 < without.waiting <= without.sessions_lost
    assert (some.waiting, some.replaced_workers, some.restored_at_once) == (0, 4, 0)
    assert min(some.picture_s) > 6.0 + FleetFigures().worker_start_s


def test_a_full_fleet_refuses_by_the_product_s_admission() -> None:
    """Every session is watched, so a worker opens as many as its device serves in real time."""
    full = simulated(replace(SMALL, sessions=4000, playing=1.0, lives_s=1e9, noticed_s=10.0))
    capacity = full.device.capacity
    assert 0 < capacity < SMALL.max_sessions
    assert full.life.preloaded == SMALL.gpus * capacity < 4000


def test_every_figure_names_its_source() -> None:
    report = measure(SMALL, costs=((1, 10),)).to_json()
    rows = report["tables"]["figures of the simulation"]
    assert {row["figure"] for row in rows} == set(SOURCES)
    assert all(row["source"].startswith(("measured", "assumed", "the product's own")) for row in rows)
    (row,) = report["tables"]["measured here: the gateway's policy, processor time"]
    assert (row["workers"], row["sessions"]) == (1, 10)
    json.dumps(report, allow_nan=False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gpus", 0),
        ("sessions", 10**9),
        ("racks", 21),
        ("gateways", 21),
        ("seconds", 1.0),
        ("noticed_s", 11.0),
        ("playing", 0.0),
        ("spares", -1),
    ],
)
def test_choices_out_of_range_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(InvalidInput) as refused:
        replace(SMALL, **{field: value})  # type: ignore[arg-type]
    assert f"--{field.removesuffix('_s')}" in refused.value.message


def test_the_command_ends_with_one_line_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "fleet.json"
    options = [
        "--gpus",
        "4",
        "--gateways",
        "2",
        "--racks",
        "2",
        "--sessions",
        "50",
        "--seconds",
        "10",
        "--noticed",
        "4",
    ]
    assert main(["fleet", *options, "--pretend", "10,1", "--json", str(file)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last) == json.loads(file.read_text("utf-8"))
    assert json.loads(last)["settings"]["call_ms"] == 10.0


async def test_a_gateway_is_filled_until_it_refuses_and_every_session_is_counted(tmp_path: Path) -> None:
    """As `bench load --workers` does it, with workers in threads. A segment takes 0.3 s, so that few fit."""
    (tmp_path / "fake.json").write_text('{"costs": {"decode": [0.2, 0.1]}}', "utf-8")
    worker = WorkerConfig(backend="fake", model=str(tmp_path), media=MediaConfig(codecs=("vp8",)))
    config = ServerConfig(worker=worker, workers=2, placement="thread", mqtt="off", spare="off")
    row = await play_fleet(config, seconds=0.2, settle_s=0.0)
    assert row["workers"] == 2
    assert 2 <= row["sessions"] < 2 * MOST
    assert 0 <= row["in real time"] <= row["sessions"]


def test_too_many_workers_and_models_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["load", "--workers", "65"]) == 2
    assert main(["load", "--workers", "1,2", "--backend", "onnxruntime"]) == 2
    told = capsys.readouterr().err
    assert "--workers must be at most 64" in told
    assert "--backend has no effect with --workers: leave it out" in told
