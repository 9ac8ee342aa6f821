"""The image's steps, carried out as far as it goes without Docker: built, started, found healthy, stopped."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.rigs import image
from tests.rigs.paths import ROOT

BUILD_S = 900
# A cluster in one place, as the image's user: Ray's head, the directory, a worker that Ray places.
CLUSTER = """
cd
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/ray.token
python -c 'import secrets; print(secrets.token_hex(32))' > ray.token
python -c 'import secrets; print(secrets.token_hex(16))' > cluster.key
chmod 600 ray.token cluster.key
psistream cluster ray --address 127.0.0.1 --gpus 0 > ray.log 2>&1 & ray=$!
for _ in $(seq 120); do ray health-check --address 127.0.0.1:6379 2> health.log && break; sleep 1; done
ray health-check --address 127.0.0.1:6379 || { cat ray.log health.log; exit 3; }
grep -qsx raylet /proc/[0-9]*/comm
psistream cluster up --listen 127.0.0.1:7700 --key-file cluster.key --workers 1 --gpus-per-worker 0 \
  --ray 127.0.0.1:6379 --backend fake > up.log 2>&1 & up=$!
status() { psistream cluster status --directory tcp://127.0.0.1:7700 --key-file cluster.key; }
for _ in $(seq 120); do status 2>&1 | grep -q " ready " && break; sleep 1; done
status
cat up.log
psistream cluster down --directory tcp://127.0.0.1:7700 --key-file cluster.key
wait $up
kill -TERM $ray
wait $ray || true
id -u
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, subprocess.CompletedProcess[str]]:
    """What came of trying the image by stage: of the server in `cpu`, and of a cluster in `cluster`, which
    builds on it."""
    folder = tmp_path_factory.mktemp("image")
    context, work = folder / "context", folder / "work"
    context.mkdir()
    work.mkdir()
    image.context(context)
    server, cluster = (image.steps(ROOT / "Dockerfile", stage) for stage in ("cpu", "cluster"))
    trials = [
        image.Trial(server, folder / "cpu"),
        image.Trial(cluster[len(server) :], folder / "cluster", CLUSTER),
    ]
    built = image.carry_out(image.program(trials, context, work), BUILD_S)
    assert built.returncode == 0, built.stdout[-1500:] + built.stderr[-3000:]
    return {trial.told.name: trial.outcome() for trial in trials}


def test_the_steps_of_a_stage_are_read_with_their_continued_lines() -> None:
    found = image.steps(ROOT / "Dockerfile", "cpu")
    assert {step.word for step in found} >= {"RUN", "COPY", "WORKDIR", "USER", "HEALTHCHECK", "ENTRYPOINT"}
    assert any("apt-get update" in step.rest and "rm -rf" in step.rest for step in found)


def test_a_stage_has_the_steps_of_the_one_it_builds_on() -> None:
    below, above = (image.steps(ROOT / "Dockerfile", name) for name in ("cpu", "cluster"))
    assert above[: len(below)] == below
    assert any("[cluster]" in step.rest for step in above[len(below) :])


def test_the_images_of_the_manifests_are_stages_of_the_dockerfile() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    built = dict(re.findall(r"^# docker build -t (\S+) --target (\S+) \.", text, re.M))
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.M))
    assert set(built.values()) == stages
    folder = ROOT / "docs" / "kubernetes"
    used = {name for path in folder.rglob("*.yaml") for name in re.findall(r"image: (\S+)", path.read_text())}
    assert used <= set(built)
    assert {name for name in used if "ray" in name} <= {n for n, s in built.items() if "cluster" in s}


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.timeout(BUILD_S + 60)
@pytest.mark.parametrize(
    ("stage", "said"),
    [("cpu", "HTTP/1.1 200 OK"), ("cluster", " ready ")],
    ids=["starts, is healthy and stops", "runs a cluster"],
)
def test_the_image_works_as_its_user(
    done: dict[str, subprocess.CompletedProcess[str]], stage: str, said: str
) -> None:
    tried = done[stage]
    told = tried.stdout[-3000:] + tried.stderr[-3000:]
    assert tried.returncode == 0, told
    assert said in tried.stdout, told
    assert int(tried.stdout.splitlines()[-1]) >= 1000, "the user that it ran as"
