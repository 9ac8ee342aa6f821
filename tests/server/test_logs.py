"""How much may be logged of one kind."""

from __future__ import annotations

import logging

from server.logs import FULL, FloodFilter, about


def test_members_of_a_cluster_do_not_suppress_each_other_s_entries() -> None:
    flood, log = FloodFilter(), logging.Logger("members")
    written: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: written.append(record.getMessage())  # type: ignore[method-assign]
    handler.addFilter(flood)
    log.addHandler(handler)
    for _ in range(FULL + 3):
        for member in ("w1", "w2"):
            log.warning("worker %s has joined", member, extra=about(member))
    assert written.count("worker w1 has joined") == written.count("worker w2 has joined") == FULL
