"""Pictures of Wander: what a seed fixes, what a camera shifts, what labels promise."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from engine.world.attributes import ACTIONS, COLOURS, HEROES, PLACES, TIMES, VALUES, WEATHERS
from engine.world.drawing.landmarks import SPACING, SPRITE, paint_landmarks, survey
from engine.world.drawing.light import light
from engine.world.drawing.places import BACKDROPS
from engine.world.drawing.render import labels, render
from engine.world.episodes import Episodes, from_script, sample_episodes
from tests.rigs.engine.episodes import rows

IDLE, LEFT, RIGHT, JUMP = range(len(ACTIONS))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Pictures are small: on shared cores, threads waiting for each other cost more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def still(rows: list[list[int]], actions: list[int] | None = None, seed: int = 5) -> Episodes:
    """One episode per row of attributes, all with the same actions."""
    moves = torch.tensor(actions or [IDLE]).expand(len(rows), -1)
    attributes = torch.tensor(rows)[:, None].expand(-1, moves.shape[1], -1)
    return from_script(attributes, moves, torch.full((len(rows),), seed))


def close(a: Tensor, b: Tensor) -> bool:
    """Equal up to rounding: vectorised and remaining elements of a loop may differ in the last bit."""
    return int((a.int() - b.int()).abs().max()) <= 1


def test_pictures_have_the_promised_shape() -> None:
    episodes = sample_episodes(2, 3, torch.Generator().manual_seed(0))
    pictures = render(episodes, 2, 9)
    assert pictures.shape == (2, 7, 3, 96, 160)
    assert pictures.dtype == torch.uint8


def test_pictures_depend_on_nothing_but_the_episode() -> None:
    """Not on the chunk, the batch, the frames rendered before, or the run."""
    episodes = sample_episodes(4, 6, torch.Generator().manual_seed(1), changes=12)
    whole = render(episodes)
    assert close(render(episodes, chunk=7), whole)
    assert close(render(rows(episodes, torch.tensor([2])), 5, 11)[0], whole[2, 5:11])
    assert close(render(episodes.window(2, 5)), whole[:, 8:20])


def test_seeds_differ() -> None:
    rows = [[0, 1, 0, 0, 0]]
    assert not torch.equal(render(still(rows, seed=1)), render(still(rows, seed=2)))


def test_what_was_passed_is_there_on_the_way_back() -> None:
    out, back = [RIGHT] * 30, [LEFT] * 30
    episodes = still([[0, 1, 0, 0, 0]], [IDLE, *out, *back])
    facts = labels(episodes)
    first, last = 3, 3 + 4 * 60
    assert facts.camera[0, first] == facts.camera[0, last]
    assert torch.equal(facts.landmark_index[0, first], facts.landmark_index[0, last])
    before, after = render(episodes, first, first + 1), render(episodes, last, last + 1)
    left, right = slice(0, 60), slice(100, 160)  # the hero looks the other way now
    # Windmills turn; nothing else in a meadow at noon knows the time.
    assert close(before[..., left], after[..., left])
    assert close(before[..., right], after[..., right])


def test_camera_shifts_the_ground_by_exact_pixels() -> None:
    pictures = render(still([[2, 1, 0, 5, 0]], [RIGHT] * 3)).float()[0]
    ground = pictures[:, :, 86:, :]
    for shift in (4, 8):
        moved = ground[shift // 4, :, :, : 60 - shift] - ground[0, :, :, shift:60]
        assert moved.abs().max() <= 2


def test_landmarks_stay_apart_and_are_the_same_for_all_observers() -> None:
    camera = torch.arange(0, 40_000, 16).float()
    seed = torch.full((len(camera), 1), 9)
    marks = survey(camera, seed)
    facts: dict[int, tuple[float, ...]] = {}
    for index, *fact in zip(
        marks.number.flatten().tolist(), marks.world_x.flatten().tolist(), marks.kind.flatten().tolist(),
        marks.colour.flatten().tolist(), marks.size.flatten().tolist(), strict=True,
    ):  # fmt: skip
        assert facts.setdefault(index, tuple(fact)) == tuple(fact)
    positions = torch.tensor([facts[i][0] for i in sorted(facts)])
    gaps = positions.diff()
    assert gaps.min() >= SPRITE
    assert gaps.mean() == pytest.approx(SPACING, abs=1)
    for column, count in ((1, 8), (2, 8)):
        assert len({fact[column] for fact in facts.values()}) == count


def test_landmarks_are_where_the_labels_say() -> None:
    episodes = still([[0, 1, 0, 0, 0]], [RIGHT] * 40)
    facts, frames = labels(episodes), episodes.frames()
    noon = light(BACKDROPS[0].climate, frames.weights["time"], frames.weights["weather"])
    image = torch.full((len(frames), 3, 96, 160), -1.0)
    paint_landmarks(image, noon, frames.camera, frames.seed, frames.clock)
    painted = (image > -0.5).any(1).any(1)  # (N, W)
    columns = torch.arange(160)
    for frame in range(0, len(frames), 16):
        near = torch.zeros(160, dtype=torch.bool)
        for x in facts.landmark_x[0, frame]:
            near |= (columns - x).abs() < 32
            if 10 < x < 150:
                assert painted[frame, int(x) - 2 : int(x) + 3].all()
        assert not (painted[frame] & ~near).any()


def test_rain_repeats_every_four_frames_and_snow_every_24() -> None:
    rain, snow = WEATHERS.index("rain"), WEATHERS.index("snow")
    episodes = still([[0, 1, rain, 1, 0], [0, 1, snow, 1, 0]], [IDLE] * 7)
    pictures = render(episodes)[..., :60]
    marks = labels(episodes)
    windmill = (marks.landmark_kind == 3) & (marks.landmark_x < 100) & (marks.landmark_x > -32)
    assert not windmill.any(), "choose another seed: a turning windmill would confuse this test"
    assert close(pictures[0, :4], pictures[0, 4:8])
    assert not close(pictures[0, 0], pictures[0, 1])
    assert close(pictures[1, :4], pictures[1, 24:])
    assert not close(pictures[1, 0], pictures[1, 4])


def test_every_place_and_time_looks_different() -> None:
    rows = [[place, time, 0, 0, 0] for place in range(len(PLACES)) for time in range(len(TIMES))]
    pictures = render(still(rows))[:, 0].float()
    small = torch.nn.functional.avg_pool2d(pictures, 8).flatten(1)
    distance = torch.cdist(small, small) / small.shape[1] ** 0.5
    distance.fill_diagonal_(torch.inf)
    assert distance.min() > 12


@pytest.mark.parametrize("time", range(len(TIMES)))
def test_every_hero_and_colour_looks_different_at_all_hours(time: int) -> None:
    rows = [[0, time, 0, hero, colour] for hero in range(len(HEROES)) for colour in range(len(COLOURS))]
    pictures = render(still(rows))[:, 0, :, 50:84, 64:96].float()
    flat = pictures.flatten(1)
    distance = torch.cdist(flat, flat) / flat.shape[1] ** 0.5
    distance.fill_diagonal_(torch.inf)
    assert distance.min() > 8


def test_labels_say_when_a_change_is_complete() -> None:
    attributes = torch.zeros(1, 8, 5, dtype=torch.int64)
    attributes[:, 3:, 1] = 2
    facts = labels(from_script(attributes, torch.zeros(1, 8).long(), torch.tensor([1])))
    assert facts.settled[0, :12, 1].all()
    assert not facts.settled[0, 12 : 12 + 23, 1].any()
    assert facts.attributes[0, 12, 1] == 2
    assert facts.settled[0, :, 0].all()


def test_jump_is_seen() -> None:
    episodes = still([[0, 1, 0, VALUES["hero"].index("ball"), 0]], [IDLE, JUMP, IDLE])
    facts = labels(episodes)
    assert facts.hero_y[0, 3] - facts.hero_y[0, 7] == 20
    red = render(episodes)[0, :, :, 28:88, 72:89].float()
    redness = (red[:, 0] - red[:, 1:].amax(1)).clamp(min=0)
    rows = torch.arange(60.0)
    centre = (redness.sum(2) * rows).sum(1) / redness.sum((1, 2))
    assert centre[3] - centre[7] == pytest.approx(20, abs=1)
