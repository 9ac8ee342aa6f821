"""Runs a Dockerfile's steps without Docker: in a copy-on-write view of this machine, which stands in for the
base image.

The view is an overlay whose upper layer is memory, in a mount namespace of its own, so nothing that a step
does remains. A virtual environment ahead on the PATH stands in for the base image's Python.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.rigs.paths import ROOT

PYTHON = "/usr/local/image"  # the base image's, inside the view
PREPARE = """
set -e
mount -t tmpfs -o size=4g tmpfs {work}
mkdir {work}/upper {work}/work {work}/view
mount -t overlay overlay -o lowerdir=/,upperdir={work}/upper,workdir={work}/work {work}/view
for each in proc sys dev; do mount --rbind /$each {work}/view/$each; done
mount -t tmpfs -o mode=1777 tmpfs {work}/view/tmp
for each in etc/resolv.conf etc/hosts; do
  if mountpoint -q /$each; then mount --bind /$each {work}/view/$each; fi
done
chmod o+x {work}/view{home}  # where this machine's Python may be, which the image's user runs
chroot {work}/view {python} -m venv {image}
"""
# The command as the image starts it, in a network of its own, until it is healthy and then told to stop.
START = """
ip link set lo up
{start} & pid=$!
for _ in $(seq 240); do
  kill -0 $pid || exit 3
  if {health}; then break; fi
  sleep 0.5
done
{health} || exit 4
ps -o uid= -p $pid
kill -TERM $pid
wait $pid
"""


class Step(NamedTuple):
    word: str  # RUN, COPY, …
    rest: str


class Trial(NamedTuple):
    """Steps to carry out after those of the trials before, and what is tried then: that the image starts, is
    healthy and stops, or the shell commands of `check` as its user. What it prints goes to files in the
    folder `told`."""

    todo: list[Step]
    told: Path
    check: str = ""

    def outcome(self) -> subprocess.CompletedProcess[str]:
        """Once it has been carried out."""
        out, err, status = ((self.told / name).read_text("utf-8") for name in ("out", "err", "status"))
        return subprocess.CompletedProcess([], int(status), out, err)


def steps(dockerfile: Path, stage: str) -> list[Step]:
    """The instructions of one stage after those of the stages that it builds on, with continued lines
    joined."""
    text = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", dockerfile.read_text("utf-8"), flags=re.M))
    found: dict[str, list[Step]] = {}
    here: list[Step] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            here = found[name or base] = list(found.get(base, []))
        else:
            here.append(Step(word, rest.strip()))
    return found[stage]


def program(trials: list[Trial], context: Path, work: Path) -> str:
    """A shell program that carries out the trials. It needs root and a mount namespace of its own, and fails
    where a step does."""
    python = shlex.quote(str(Path(sys.base_prefix) / "bin" / "python3"))
    lines = [PREPARE.format(work=work, home=Path.home(), python=python, image=PYTHON)]
    image = Image(f"{work}/view", context)
    for trial in trials:
        lines += filter(None, map(image.step, trial.todo))
        if trial.check:
            script = "ip link set lo up\nexec " + image.inside(f"sh -ec {shlex.quote(trial.check)}")
        else:
            script = image.start()
        trial.told.mkdir()
        out, err, status = (trial.told / name for name in ("out", "err", "status"))
        tried = f"unshare --net sh -c {shlex.quote(script)} > {out} 2> {err}"
        lines.append(f"code=0; {tried} || code=$?; echo $code > {status}")
    return "\n".join(lines)


class Image:
    """What the steps so far have set, and the shell commands that carry out the next ones below `root`."""

    def __init__(self, root: str, context: Path) -> None:
        self._root, self._context = root, context
        self._folder, self._user = "/", "root"
        path = f"{PYTHON}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self._environment = {"PATH": path}
        self._entry: list[str] = []
        self._arguments: list[str] = []
        self._health = ""

    def inside(self, shell: str) -> str:
        given = " ".join(f"{k}={shlex.quote(v)}" for k, v in self._environment.items())
        there = shlex.quote(f"cd {self._folder} && exec {shell}")
        return f"env {given} chroot --userspec={self._user}:{self._user} {self._root} sh -c {there}"

    def start(self) -> str:
        health = f"({self.inside(f'sh -c {shlex.quote(self._health)}')})"
        return START.format(start=self.inside(shlex.join(self._entry + self._arguments)), health=health)

    def step(self, step: Step) -> str:
        """Empty if there is nothing to carry out."""
        match step:
            case "RUN", rest:
                return self.inside(f"sh -ec {shlex.quote(rest)}")
            case "COPY", rest:
                *names, target = rest.split()
                into = f"{self._root}{self._folder}/{target}"
                sources = " ".join(str(self._context / name) for name in names)
                tree = len(names) == 1 and (self._context / names[0]).is_dir()
                return f"mkdir -p {into} && cp -r {sources}{'/.' if tree else ''} {into}"
            case "WORKDIR", folder:
                self._folder = folder
                return f"mkdir -p {self._root}{folder}"
            case "ENV", rest:
                self._environment |= dict(each.split("=", 1) for each in shlex.split(rest))
            case "USER", user:
                self._user = user
                self._environment["HOME"] = f"/home/{user}"
            case "HEALTHCHECK", rest:
                self._health = rest.partition("CMD ")[2]
            case "ENTRYPOINT", rest:
                self._entry = json.loads(rest)
            case "CMD", rest:
                self._arguments = json.loads(rest)
            case "EXPOSE", _:
                pass
            case word, _:
                raise ValueError(f"the rig does not know {word}")
        return ""


def context(into: Path) -> None:
    """What Docker is sent: the files that .dockerignore lets through, as git knows them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    kept = [n[1:] for n in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if n.startswith("!")]
    for name in listed.stdout.split("\0"):
        if name.partition("/")[0] in kept and (ROOT / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, into / name)


def carry_out(script: str, within_s: float) -> subprocess.CompletedProcess[str]:
    """Run a `program` in a mount namespace of its own."""
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=within_s, check=False)
