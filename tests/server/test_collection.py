"""A full garbage collection stops the event loop, so what lives for ever is not looked at again."""

from __future__ import annotations

import gc

from server.serve import rarely_scanned


def test_what_was_loaded_is_left_out_of_collections() -> None:
    before = gc.get_freeze_count()
    try:
        rarely_scanned()
        assert gc.get_freeze_count() > before
        assert len(gc.get_objects()) < gc.get_freeze_count()
    finally:
        gc.unfreeze()
