"""Controls with a known id: a repetition gets the same receipt, a different control is rejected."""

from __future__ import annotations

import numpy as np
import pytest

from engine.types import Action, Control, ControlBody, Image, Pause, Prompt, Reset
from server.gateway.session import REMEMBERED_ANSWERS, digest
from tests.rigs.server.server_rig import applied, config, gateway, live

PIXELS = np.zeros((3, 2, 2), np.uint8)


async def test_a_repetition_is_answered_as_before_and_another_control_with_its_id_refused() -> None:
    async with gateway() as (gate, workers, _):
        first = Control("p1", Prompt("a fox"))
        gate.submit("main", first)
        workers[0].tell(applied("main", "p1", segment=12))
        again = gate.submit("main", Control("p1", Prompt("a fox"), expires_s=5.0))
        assert (again.status, again.segment) == ("applied", 12)
        refused = gate.submit("main", Control("p1", Pause()))
        assert (refused.status, refused.code) == ("rejected", "id_reused")
        assert "new id" in str(refused.message)
        assert gate.submit("main", first).status == "applied", "the refusal took nothing away"
        assert workers[0].submitted() == [first]


async def test_a_pending_control_keeps_its_answer() -> None:
    async with gateway() as (gate, workers, _):
        gate.submit("main", Control("a", Action("left")))
        assert gate.submit("main", Control("a", Action("right"))).code == "id_reused"
        workers[0].tell(applied("main", "a"))
        assert gate.submit("main", Control("a", Action("left"))).status == "applied"


async def test_a_bounded_number_of_ids_is_remembered() -> None:
    async with gateway() as (gate, workers, _):
        session = gate.session("main")
        for n in range(REMEMBERED_ANSWERS + 1):
            gate.submit("main", Control(f"c{n}", Pause()))
        assert len(session.answers) == len(session.contents) == REMEMBERED_ANSWERS
        assert gate.submit("main", Control("c1", Prompt("a fox"))).code == "id_reused"
        assert gate.submit("main", Control("c0", Prompt("a fox"))).status == "received"
        assert workers[0].submitted()[-1].body == Prompt("a fox")


async def test_over_http_it_is_a_conflict() -> None:
    async with live(config()) as server:
        assert (await server.control({"id": "p1", "type": "prompt", "text": "a fox"})).status_code == 202
        answer = await server.control({"id": "p1", "type": "pause"})
        assert (answer.status_code, answer.json()["code"]) == (409, "id_reused")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Prompt("a"), Prompt("a", "cut")),
        (Reset(1), Reset(None)),
        (Action(None), Action("idle")),
        (Pause(), Action(None)),
        (Image(PIXELS), Image(PIXELS + 1)),
        (Image(PIXELS), Image(PIXELS, "now")),
    ],
)
def test_different_controls_have_different_digests(one: ControlBody, other: ControlBody) -> None:
    assert digest(one) != digest(other)
    assert digest(Image(PIXELS)) == digest(Image(PIXELS.copy()))
