"""Figures in the docs that the code knows are those of the code."""

from __future__ import annotations

import re
from contextlib import closing

from engine.backends.registry import load_backend
from engine.config import RuntimeConfig
from engine.runtime.device.engine import Engine
from tests.rigs.paths import ROOT

# files and how each writes the bytes of a session of the built-in model
STATE = {
    "docs/protocol.md": r'"state_bytes": (\d+)',
    "docs/architecture.md": r"For the built-in model that is ([\d ]+) bytes",
    "README.md": r"a session's state has ([\d,]+) bytes",
}


def test_the_bytes_of_a_session_are_those_of_the_built_in_model() -> None:
    with closing(load_backend("onnxruntime", None, None)) as backend:
        engine = Engine(backend, RuntimeConfig(max_sessions=1), lambda event: None, lambda: 0.0)
        wanted = engine.state_bytes
    for file, pattern in STATE.items():
        told = re.findall(pattern, (ROOT / file).read_text(encoding="utf-8"))
        assert told, file
        assert {int(re.sub(r"\D", "", figure)) for figure in told} == {wanted}, file
