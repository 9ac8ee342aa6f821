"""The image's steps, carried out as far as it goes without Docker: built, started, found healthy, stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rigs import image
from tests.rigs.paths import ROOT

BUILD_S = 900


def test_the_steps_of_a_stage_are_read_with_their_continued_lines() -> None:
    found = image.steps(ROOT / "Dockerfile", "cpu")
    assert {step.word for step in found} >= {"RUN", "COPY", "WORKDIR", "USER", "HEALTHCHECK", "ENTRYPOINT"}
    assert any("apt-get update" in step.rest and "rm -rf" in step.rest for step in found)


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.timeout(BUILD_S + 60)
def test_the_image_builds_starts_is_healthy_as_its_user_and_stops(tmp_path: Path) -> None:
    context, work = tmp_path / "context", tmp_path / "work"
    context.mkdir()
    work.mkdir()
    image.context(context)
    script = image.program(image.steps(ROOT / "Dockerfile", "cpu"), context, work)
    done = image.carry_out(script, BUILD_S)
    told = done.stdout[-1500:] + done.stderr[-3000:]
    assert done.returncode == 0, told
    assert "HTTP/1.1 200 OK" in done.stdout, told
    assert int(done.stdout.splitlines()[-1]) >= 1000, "the user that the server ran as"
