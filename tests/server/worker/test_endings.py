"""What is remembered of sessions that have ended."""

from __future__ import annotations

from server.worker.endings import Endings


def test_the_highest_epoch_counts_and_the_oldest_are_forgotten() -> None:
    endings = Endings(3)
    assert endings.epoch("a") == 0
    assert endings.add("a", 5)
    assert not endings.add("a", 5)
    assert not endings.add("a", 2)
    assert endings.epoch("a") == 5
    endings.add("b", 1)
    endings.add("a", 1)  # heard again, so it is not the oldest
    endings.add("c", 1)
    endings.add("d", 1)
    assert sorted(endings) == ["a", "c", "d"]
    endings.forget("a")
    assert endings.epoch("a") == 0
