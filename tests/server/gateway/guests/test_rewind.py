"""A session is rewound by a viewer of the gateway that only shows it, while others watch at its owner."""

from __future__ import annotations

import pytest

from engine.types import Control, Prompt, Rewind
from tests.rigs.server.server_rig import join, recorded, until
from tests.rigs.waiting import LONG_S
from tests.server.gateway.guests.gateways import gateways, shown
from tests.server.gateway.guests.test_guests import same_video


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.upkeep.EVERY_S", 0.01)
    monkeypatch.setattr("server.gateway.guests.guests.EVERY_S", 0.01)


async def test_all_viewers_go_back_once_and_see_the_same() -> None:
    async with gateways() as ((first, second), _):
        mine = await first.open("a dog", 5)
        guest = await shown(second, mine)
        ours, theirs = recorded(mine.fanout), recorded(guest.fanout)
        for fanout in (mine.fanout, guest.fanout):
            join(fanout)
        await until(lambda: ours and theirs, "video at both")
        second.shown.submit(mine.id, Control("cat", Prompt("a cat", when="now")))
        await until(
            lambda: mine.info.prompt == "a cat" and mine.answers["cat"].status == "applied", "the prompt"
        )
        shown_until = mine.answers["cat"].segment
        assert shown_until is not None
        await until(lambda: mine.stats and mine.stats.segment > shown_until, "its picture", LONG_S)

        epoch, back = mine.info.epoch, Control("back", Rewind(600.0))
        for _ in range(2):  # again, as after a lost answer
            assert second.shown.submit(mine.id, back).status == "received"

        def answered() -> bool:
            return all("back" in s.answers and s.answers["back"].status == "applied" for s in (mine, guest))

        await until(answered, "the receipt at both", LONG_S)
        assert guest.answers["back"] == mine.answers["back"]
        frame = mine.answers["back"].frame
        assert frame is not None

        def arrived() -> bool:
            views = first.info(mine.id), second.shown.info(mine.id)
            return all(view.prompt == "a dog" and view.frame >= frame for view in views)

        await until(arrived, "the past at both", LONG_S)
        assert mine.info.epoch == epoch + 1, "once"
        assert guest.info.epoch == mine.info.epoch
        for seen in (ours, theirs):
            seen[:] = [packet for packet in seen if packet.frame >= frame]
        await until(lambda: same_video(ours, theirs), "the same frames", LONG_S)
