"""The past of a session: bounded, thinned out, and as a file from which the video goes on bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.backends.base import Backend
from engine.backends.fake import FAKE_SPEC, FakeBackend
from engine.backends.registry import load_backend
from engine.config import RuntimeConfig
from engine.errors import InvalidInput, Unavailable, UnknownSession
from engine.runtime.state import past
from engine.runtime.state.change import Change, NewScene, total
from engine.runtime.state.past import LivePast, Moment
from engine.runtime.state.state import SessionState
from engine.types import Action, Image, OpenSession, Prompt, SegmentReady, Weighted
from tests.rigs.engine.fakes import TINY_SPEC, Rig

SEGMENT_S = FAKE_SPEC.segment_s
FOX = (Weighted("a fox"),)
STATE = SessionState.zeros(TINY_SPEC)


def moment(segment: int, due_s: float, for_s: float = 0.5) -> Moment:
    return Moment(segment, STATE, FOX, None, due_s, due_s + for_s)


def filled(segments: int, most: int = 42, for_s: float = 0.5) -> LivePast:
    kept = LivePast(moment(-1, 100.0, 0.0), most)
    for n in range(segments):
        kept.add(moment(n, 100 + n * for_s, for_s))
    return kept


# ---- what is kept ----


def test_the_latest_are_all_kept_older_ones_now_and_then_and_none_for_ever() -> None:
    kept, sizes = filled(0), set()
    for n in range(2000):
        kept.add(moment(n, 100 + n * 0.5))
        sizes.add(len(kept.moments))
        assert [m.segment for m in kept.moments[-past.DENSE :]] == list(range(n - past.DENSE + 1, n + 1))[
            -n - 2 :
        ]
    assert max(sizes) <= past.limits(STATE, TINY_SPEC).moments == past.DENSE + 30
    ages = [kept.moments[-1].position_s - m.position_s for m in kept.moments]
    assert past.KEPT_S - past.APART_S <= ages[0] <= past.KEPT_S
    assert max(np.diff(sorted(ages))) <= past.APART_S


def test_of_large_models_fewer_are_kept_and_of_huge_ones_enough_for_now() -> None:
    spec = replace(FAKE_SPEC, latent_height=128, latent_width=192)
    middle = past.limits(SessionState.zeros(spec), spec)
    assert past.LEAST < middle.moments < past.DENSE
    assert middle.nbytes < 2 * past.MOST_BYTES
    spec = replace(FAKE_SPEC, latent_height=256, latent_width=256)  # a state alone is above the limit
    assert past.limits(SessionState.zeros(spec), spec).moments == len(filled(500, 4).moments) == past.LEAST


def test_what_is_on_the_screen_and_what_was() -> None:
    kept = filled(past.DENSE)
    assert kept.on_screen(105.2).segment == 10
    assert kept.on_screen(200.0).segment == 11
    assert kept.on_screen(0.0).segment == -1
    assert kept.ago(0.1, 105.2).segment == 9  # the start of what was shown then
    assert kept.ago(1.0, 105.2).segment == 7
    assert kept.ago(99.0, 105.2).segment == -1
    assert kept.ago(1.0, 300.0).segment == kept.ago(1.0, 106.0).segment == 9  # the picture stands


def test_time_in_which_the_picture_stood_does_not_count() -> None:
    kept = LivePast(moment(-1, 0.0, 0.0), 42)
    for n, due_s in enumerate((0.0, 0.5, 60.0, 60.5)):
        kept.add(moment(n, due_s))
    assert kept.ago(1.2, 60.6).segment == -1
    assert kept.ago(0.9, 60.6).segment == 0


def test_going_back_forgets_what_came_after_and_what_was_changed_there_is_to_be_made_again() -> None:
    kept = filled(6)
    blue, night = Change((Weighted("blue"),)), Change(scene=NewScene(1, 2))
    kept.note(blue)
    kept.add(moment(6, 103.0))
    kept.note(night)
    there = kept.on_screen(102.7)
    assert (there.segment, there.change) == (5, blue)
    assert kept.since(there) == total([blue, night]) == Change(blue.prompts, 1, night.scene)
    kept.forget_after(there)
    assert [m.segment for m in kept.moments][-2:] == [4, 5]
    assert kept.moments[-1].change is None


def test_changes_add_up() -> None:
    pixels = np.zeros((3, 2, 2), np.uint8)
    picture = Change(FOX, scene=NewScene(1, 1, pixels))
    again = Change(FOX, scene=NewScene(2, 0, keep_anchor=True))
    both = picture.then(again)
    assert both.scene is not None
    assert both.scene.image is pixels  # the anchor that is kept is the picture's
    assert (both.scene.seed, both.scene.number) == (2, 0)
    assert Change(FOX, 8).then(Change((Weighted("x"),), 2)) == Change((Weighted("x"),), 2)
    assert Change(FOX, 8).then(Change()) == Change(FOX, 8)
    assert total([None, None]) is None


def test_the_past_takes_no_more_memory_than_is_said() -> None:
    rig = Rig()
    rig.open(prompt="a red fox")
    for n in range(60):
        bodies = (Prompt("night", "cut"), Prompt("blue", "soft"), Image(np.full((3, 96, 160), n, np.uint8)))
        rig.submit(bodies[n % 3])
        rig.run_segments(2)
    session = rig.session("s")
    parts = {id(p): p.nbytes for m in session.timeline.past.moments for p in m.state.parts()}
    said = rig.infos()[-1].past_bytes
    assert said / 8 < sum(parts.values()) <= said
    assert len(session.timeline.past.moments) <= session.past_limits.moments


# ---- as a file ----


def restored(rig: Rig, data: bytes, name: str = "copy", **more: object) -> None:
    command = OpenSession(name, None, None, snapshot=data)
    rig.engine.open(replace(command, **more))  # type: ignore[arg-type]
    rig.engine.set_watched(name, True)


def pictures(segments: list[SegmentReady]) -> list[bytes]:
    return [s.frames.tobytes() for s in segments]


def continued(make: Backend, prompts: list[Prompt]) -> tuple[list[bytes], list[bytes], int]:
    """What a session shows after its snapshot, and what the snapshot shows in another engine."""
    rig = Rig(make, config=RuntimeConfig())  # type: ignore[arg-type]
    rig.open(prompt="a red fox walks right", seed=5)
    rig.run_segments(2)
    for prompt in prompts:
        rig.submit(prompt)
    rig.submit(Action("right"))
    rig.run_segments(2)
    screen = [s for s in rig.segments() if s.due_s <= rig.clock()][-1].segment
    data = rig.engine.take("s", "snapshot").data
    rest = rig.run_segments(4 - (len(rig.segments()) - 1 - screen))
    other = Rig(make)  # type: ignore[arg-type]
    restored(other, data)
    copy = other.run_segments(4, "copy")
    assert other.infos("copy")[0].action == "right"
    assert other.infos("copy")[0].prompt == rig.infos()[-1].prompt
    rig.engine.close()
    other.engine.close()
    return pictures(rig.segments()[screen + 1 :][:4]), pictures(copy), len(data) + 0 * len(rest)


STEERED = [
    [],
    [Prompt("a blue fox", "soft", transition_segments=8)],
    [Prompt((Weighted("night", 2.0), Weighted("a blue fox")), "cut")],
]


@pytest.mark.parametrize("prompts", STEERED)
def test_a_snapshot_goes_on_elsewhere_bit_for_bit(prompts: list[Prompt]) -> None:
    live, copy, size = continued(FakeBackend(), prompts)
    assert live == copy
    assert size == continued(FakeBackend(), [])[2]  # whatever it has been through


def test_a_snapshot_of_the_model_that_comes_with_psistream_goes_on_bit_for_bit() -> None:
    backend = load_backend("onnxruntime")
    live, copy, size = continued(backend, STEERED[1])
    assert live == copy
    assert size < 1_100_000  # half of it are the world's columns that structure W keeps, a fixed number
    backend.close()


def test_a_restored_session_takes_its_own_prompt_seed_and_picture_and_reset_is_its_own() -> None:
    rig = Rig()
    rig.open(prompt="a red city", seed=5)
    rig.run_segments(5)
    data = rig.engine.take("s", "snapshot").data
    image = np.full((3, 96, 160), 30, np.uint8)
    restored(rig, data, "same")
    restored(rig, data, "prompt", prompt="a blue city")
    restored(rig, data, "seed", seed=77)
    restored(rig, data, "image", image=image)
    first = {name: pictures(rig.run_segments(2, name)) for name in ("same", "prompt", "seed", "image")}
    assert len({tuple(shown) for shown in first.values()}) == 4
    assert [rig.infos(name)[0].seed for name in first] == [5, 5, 77, 5]
    assert rig.infos("prompt")[0].prompt == "a blue city"


def test_what_cannot_be_saved_or_restored_is_told() -> None:
    rig = Rig()
    rig.open()
    with pytest.raises(Unavailable, match="nothing has been shown yet"):
        rig.engine.take("s", "snapshot")
    with pytest.raises(UnknownSession):
        rig.engine.take("nobody", "snapshot")
    rig.run_segments(2)
    data = rig.engine.take("s", "snapshot").data
    with pytest.raises(InvalidInput, match="safetensors") as caught:
        restored(rig, data[:-1])
    assert caught.value.field == "snapshot"
    with pytest.raises(InvalidInput, match="exclude each other"):
        restored(rig, data, fork_of="s")
    with pytest.raises(InvalidInput, match="prompt is missing"):
        rig.engine.open(OpenSession("x", None, 1))
