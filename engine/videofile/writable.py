"""Checks whether a file can be written, before work is spent on its content."""

from __future__ import annotations

from pathlib import Path


def check_writable(path: Path) -> None:
    """Raises OSError if the file cannot be written. An existing file keeps its content, and none is left
    behind. Pipes and devices are not opened."""
    if path.is_fifo() or path.is_char_device():
        return
    existed = path.exists()
    with path.open("ab"):
        pass
    if not existed:
        path.unlink()
