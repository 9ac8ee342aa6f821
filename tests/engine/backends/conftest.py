"""Fixtures of the backends' tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.backends.artifact import WEIGHTS, write_manifest
from tests.engine.backends.model_folder import GRAPH, SPEC, pointing_at
from tests.rigs.engine import tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As an export leaves it, with other bytes in the large files."""
    folder = tmp_path / "model"
    tiny.write_text_files(folder)
    (folder / WEIGHTS).write_bytes(bytes(1000) + b"weights")
    (folder / "decode.onnx").write_bytes(pointing_at(WEIGHTS))
    write_manifest(folder, SPEC, {"dit": {}}, [GRAPH], {"torch": "2.13.0"}, [{"level": "parity"}])
    return folder
