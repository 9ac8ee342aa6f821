"""The repository itself: nothing large, nothing private, and what its documents promise is there."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from server.cli import COMMANDS
from tests.rigs.paths import ROOT

MIB = 2**20
WEIGHTS = "engine/weights/"
# split, or this file would break its own rule
PRIVATE = [a + b for a, b in (("/wo", "rk/"), ("/ro", "ot/"), ("../sha", "red/"), ("CONTR", "ACT.md"))]
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)|\bsrc=\"([^\":]+)\"")


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def size(name: str) -> int:
    return (ROOT / name).stat().st_size


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def documents(tracked: list[str]) -> list[str]:
    return [name for name in tracked if name.endswith(".md")]


def test_only_weights_are_large_and_they_stay_within_their_limit(tracked: list[str]) -> None:
    assert [n for n in tracked if size(n) > MIB and not n.startswith(WEIGHTS)] == []
    assert sum(size(n) for n in tracked if n.startswith(WEIGHTS)) <= 64 * MIB


def test_no_file_speaks_of_the_machine_it_was_written_on(tracked: list[str]) -> None:
    """Text and exported graphs alike: exporters write stack traces."""
    found = []
    for name in tracked:
        data = (ROOT / name).read_bytes()
        found += [f"{name}: {word}" for word in PRIVATE if word.encode() in data]
    assert found == []


def test_what_is_installed_is_the_product_and_not_its_tests(project: dict[str, object]) -> None:
    """A package that is not found is missing from what `pip install` gives others."""
    tool = project["tool"]
    assert isinstance(tool, dict)
    patterns = tool["setuptools"]["packages"]["find"]["include"]
    tops = {name.removesuffix("*") for name in patterns}
    assert tops == {"engine", "export", "server", "clients", "benchmarks"}


def test_every_folder_of_python_files_is_a_package(tracked: list[str]) -> None:
    folders = {str(Path(n).parent) for n in tracked if n.endswith(".py")}
    assert [f for f in sorted(folders) if not (ROOT / f / "__init__.py").exists()] == []


def test_known_good_versions_lie_in_the_ranges_that_we_promise(project: dict[str, object]) -> None:
    pinned = dict(
        line.split("==") for line in read("constraints.txt").splitlines() if line and not line.startswith("#")
    )
    pins = {name.lower().replace("_", "-"): Version(version) for name, version in pinned.items()}
    data = project["project"]
    assert isinstance(data, dict)
    extras = data["optional-dependencies"]
    names = ("torch", "export", "train", "full", "cluster", "dev")
    wanted = [*data["dependencies"], *(text for name in names for text in extras[name])]
    for text in wanted:
        requirement = Requirement(text)
        if requirement.name != "psistream":
            version = pins[requirement.name.lower()]
            assert version in requirement.specifier, f"{text}: {version} is pinned"


def test_commands_that_the_documents_name_exist(tracked: list[str]) -> None:
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.M))
    for name in documents(tracked):
        text = read(name)
        shell = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S))
        made = re.findall(r"`make ([a-z]+)", text) + re.findall(r"^make ([a-z]+)", shell, re.M)
        said = re.findall(r"`psistream ([a-z]+)", text)
        said += re.findall(r"^(?:\.venv/bin/)?psistream ([a-z]+)", shell, re.M)
        assert set(made) <= targets, name
        assert set(said) <= set(COMMANDS), name


def test_links_between_documents_lead_somewhere(tracked: list[str]) -> None:
    broken = []
    for name in documents(tracked):
        for pair in LINK.findall(read(name)):
            target = (ROOT / name).parent / (pair[0] or pair[1])
            media = ROOT / "docs" / "media"
            if not target.exists() and (media.exists() or media not in target.parents):
                broken.append(f"{name}: {target.name}")
    assert broken == []


def test_what_decides_over_a_commit_can_be_run() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_changelog_has_a_place_for_what_comes_next() -> None:
    assert "\n## [Unreleased]\n" in read("CHANGELOG.md")
