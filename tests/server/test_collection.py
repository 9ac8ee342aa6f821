"""A full garbage collection stops the event loop, so what lives for ever is not looked at again."""

from __future__ import annotations

import gc

from server.serve import rarely_scanned


def test_what_was_loaded_is_left_out_of_collections() -> None:
    before = gc.get_freeze_count()
    loaded: list[list[int]] = [[] for _ in range(1000)]  # what a server loads
    rarely_scanned()
    assert gc.get_freeze_count() >= before + len(loaded)
    assert len(gc.get_objects()) < len(loaded)
