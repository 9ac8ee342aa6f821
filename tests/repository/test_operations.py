"""What operators copy agrees with the code: table of metrics, dashboard, alert rules, units and images."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from server.arguments import parser as serve_parser
from server.cluster.command import parser as cluster_parser
from server.cluster.worker import parser as worker_parser
from server.metrics import Metrics
from tests.rigs.paths import ROOT
from tests.rigs.skips import need

DOCS = ROOT / "docs"


def metrics() -> set[str]:
    """Their names as Prometheus stores them."""
    names = set()
    for family in Metrics().registry.collect():
        names.add(f"{family.name}_total" if family.type == "counter" else family.name)
    return names


def used_in(text: str) -> set[str]:
    found = re.findall(r"\bpsistream_[a-z_]+", text)
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}


def test_every_metric_is_explained_and_none_that_is_not_there() -> None:
    rows = re.findall(r"^\| `(psistream_\w+)` \| (.+?) \|", (DOCS / "metrics.md").read_text("utf-8"), re.M)
    assert {name for name, _ in rows} == metrics()


@pytest.mark.parametrize("file", ["dashboard.json", "alerts.yml", "operations.md"])
def test_what_is_watched_is_there(file: str) -> None:
    used = used_in((DOCS / file).read_text("utf-8"))
    assert used
    assert used <= metrics()


def test_the_dashboard_is_one_that_grafana_can_import() -> None:
    board = json.loads((DOCS / "dashboard.json").read_text("utf-8"))
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 10
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["description"]
        assert all(target["expr"] for target in panel["targets"])


def test_the_alert_rules_are_valid_and_fire_when_they_should() -> None:
    promtool = shutil.which("promtool") or ""
    need(bool(promtool), "prometheus")
    for command in ("check rules", "test rules", "check config"):
        file = {
            "check rules": "alerts.yml",
            "test rules": "alerts_test.yml",
            "check config": "prometheus.yml",
        }
        done = subprocess.run(
            [promtool, *command.split(), str(DOCS / file[command])],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def options_in(words: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if word.startswith("--")}


def known_options() -> set[str]:
    return {option for action in serve_parser()._actions for option in action.option_strings}


UNITS = {
    "psistream.service": serve_parser(),
    "psistream-worker@.service": worker_parser(),
    "psistream-directory.service": cluster_parser(),
}


@pytest.mark.parametrize("name", UNITS)
def test_the_units_start_programs_with_options_that_they_have(name: str) -> None:
    (start,) = re.findall(r"^ExecStart=(.+)$", (DOCS / name).read_text("utf-8"), re.M)
    UNITS[name].parse_args(shlex.split(start)[2:])


def test_compose_starts_the_server_with_options_that_it_has() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    assert set(compose["services"]) == {"psistream", "mosquitto", "coturn", "prometheus", "grafana"}
    assert options_in(compose["services"]["psistream"]["command"]) <= known_options()
    mounted = [volume for service in compose["services"].values() for volume in service.get("volumes", ())]
    assert mounted
    for volume in mounted:
        assert (ROOT / volume.partition(":")[0]).is_file()
    for service in compose["services"].values():
        for config in service.get("configs", ()):
            assert config["source"] in compose["configs"]


@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_the_unit(name: str, tmp_path: Path) -> None:
    """As `systemd-analyze verify` sees it, with a program that is there."""
    analyze = shutil.which("systemd-analyze") or ""
    need(bool(analyze), "systemd")
    unit = (DOCS / name).read_text("utf-8")
    (program,) = re.findall(r"^ExecStart=(\S+)", unit, re.M)
    file = tmp_path / name.replace("@", "@0")
    file.write_text(unit.replace(program, "/bin/true"), "utf-8")
    done = subprocess.run([analyze, "verify", str(file)], capture_output=True, text=True, check=False)
    told = [line for line in done.stderr.splitlines() if "psistream" in line]
    assert (done.returncode, told) == (0, [])


def copied() -> list[str]:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    return [
        name
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for name in line.split()[1:-1]
    ]


def test_the_image_copies_what_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    for name in copied():
        assert (ROOT / name).exists()
        assert f"!{name}" in ignored
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    for line in (line for line in lines if line.startswith("CMD [")):
        assert options_in(json.loads(line.removeprefix("CMD "))) <= known_options()


def test_the_image_s_steps_make_a_package_that_has_its_data(tmp_path: Path) -> None:
    """As far as it goes without Docker: the files that are copied, built as the image builds them."""
    for name in copied():
        source = ROOT / name
        ignore = shutil.ignore_patterns("__pycache__", "runs", ".cache")
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=ignore)
        else:
            shutil.copy(source, tmp_path / name)
    built: dict[str, Any] = {}
    program = (
        "import json; from setuptools import build_meta; print(json.dumps(build_meta.build_wheel('wheel')))"
    )
    (tmp_path / "wheel").mkdir()
    import sys

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    wheel = tmp_path / "wheel" / json.loads(done.stdout.splitlines()[-1])
    import zipfile

    with zipfile.ZipFile(wheel) as archive:
        built = dict.fromkeys(archive.namelist())
    for wanted in ("clients/web/index.html", "server/serve.py", "clients/steer/session.py"):
        assert wanted in built
    assert any(name.startswith("engine/weights/") for name in built)
