"""The house: small files, rooms that are seen at a glance, one name per class."""

from __future__ import annotations

import ast
import subprocess
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median

import pytest

from tests.rigs.paths import ROOT

PRODUCT = ("engine", "export", "server", "clients", "benchmarks")
CODE = (".py", ".js", ".css", ".html")
MEDIAN, LONGEST, BESIDE = 110, 300, 16

# Not yet as they should be. These lists may only shrink: a name that is mended must leave.
TOO_LONG: set[str] = set()
TOO_FULL: set[str] = set()
SAME_NAME: set[str] = set()

# the shared nouns of the product, and what passes between gateway and worker: data, no behaviour
NOUNS = {"engine/types.py"}
FAMILY = "engine/model/"  # each family of models has its own Denoise, Decode, …: one part of one contract


@pytest.fixture(scope="module")
def lines() -> dict[str, int]:
    """Lines of each file of code that git knows and that is not empty."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    names = [n for n in listed.split("\0") if n.endswith(CODE) and n.split("/")[0] in (*PRODUCT, "tests")]
    found = {n: (ROOT / n).read_text("utf-8").count("\n") for n in names if (ROOT / n).is_file()}
    return {name: count for name, count in found.items() if count}


def in_product(name: str) -> bool:
    return name.split("/")[0] in PRODUCT


def test_the_median_file_is_short(lines: dict[str, int]) -> None:
    assert median(count for name, count in lines.items() if in_product(name)) <= MEDIAN


def test_no_file_is_long(lines: dict[str, int]) -> None:
    found = {name for name, count in lines.items() if count > LONGEST} - NOUNS
    assert found - TOO_LONG == set()
    assert TOO_LONG - found == set(), "these are mended: take them off the list"


def test_no_folder_is_a_heap(lines: dict[str, int]) -> None:
    beside = Counter(str(Path(name).parent) for name in lines if not name.endswith("__init__.py"))
    found = {folder for folder, count in beside.items() if count > BESIDE}
    assert found - TOO_FULL == set()
    assert TOO_FULL - found == set(), "these are mended: take them off the list"


def test_a_class_name_means_one_thing(lines: dict[str, int]) -> None:
    """Of the product's classes: in a traceback, a search or a talk, a name says which one is meant."""
    places = defaultdict(set)
    for name in lines:
        if in_product(name) and name.endswith(".py"):
            for node in ast.walk(ast.parse((ROOT / name).read_text("utf-8"))):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].add("a family" if name.startswith(FAMILY) else name)
    found = {name: sorted(where) for name, where in places.items() if len(where) > 1}
    assert {name: where for name, where in found.items() if name not in SAME_NAME} == {}
    assert SAME_NAME - found.keys() == set(), "these are mended: take them off the list"
