"""Landmarks out and back: readings become positions, positions are compared, and few videos give figures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from engine.evaluation.bench import truth
from engine.evaluation.figures import recall
from engine.evaluation.figures.sightings import (
    Sighting,
    compare,
    descriptors,
    landmarks,
    retrieval,
    true_landmarks,
)
from engine.evaluation.instruments.examples import CELL_PX, CELLS
from engine.evaluation.instruments.landmark_reader import ColumnReading
from engine.world.attributes import ACTIONS, WIDTH
from engine.world.drawing.landmarks import survey

AWAY = 160  # frames: ten seconds, 640 px


def camera() -> Tensor:
    steps = torch.cat([torch.ones(AWAY), -torch.ones(AWAY)])
    return steps.cumsum(0) * 4


def perfect(at: Tensor, seed: int) -> ColumnReading:
    """The output of a perfect reader in the world of this seed."""
    marks = survey(at, torch.full((len(at), 1), seed))
    present = torch.zeros(len(at), CELLS)
    x = (torch.arange(CELLS) + 0.5) * CELL_PX + torch.zeros(len(at), CELLS)
    kind = torch.zeros(len(at), CELLS, 8)
    colour = torch.zeros(len(at), CELLS, 8)
    for n in range(len(at)):
        for s in range(marks.number.shape[1]):
            where = float(marks.screen_x[n, s])
            if 0 <= where < WIDTH:
                cell = int(where // CELL_PX)
                present[n, cell], x[n, cell] = 1.0, where
                kind[n, cell, marks.kind[n, s]] = 1.0
                colour[n, cell, marks.colour[n, s]] = 1.0
    return ColumnReading(present, x, kind, colour)


def test_a_perfect_reader_finds_the_true_landmarks() -> None:
    at = camera()[:AWAY:2]
    found = landmarks(perfect(at, 7), at)
    there = {(f.kind, f.colour, round(f.x)) for f in true_landmarks(at, 7)}
    assert len(found) >= 6
    assert {(f.kind, f.colour, round(f.x)) for f in found} <= there


def test_the_same_world_matches_and_another_one_does_not() -> None:
    at = camera()
    out, back = (landmarks(perfect(at[w], 7), at[w]) for w in (slice(0, AWAY, 2), slice(AWAY, None, 2)))
    other = landmarks(perfect(at[AWAY::2], 8), at[AWAY::2])
    same = compare(out, back)
    inner = [m for m in same if 0 < m.x < 640]
    assert inner
    assert all(m.found and m.kind and m.colour for m in inner)
    assert sum(m.kind and m.colour for m in compare(out, other)) <= len(out) // 2


def test_a_landmark_too_far_off_is_not_found_and_a_flicker_is_no_landmark() -> None:
    out = [Sighting(100.0, 1, 2, 9), Sighting(300.0, 1, 2, 9)]
    matches = compare(out, [Sighting(128.0, 1, 3, 9), Sighting(345.0, 1, 2, 9)])
    assert [(m.found, m.kind, m.colour) for m in matches] == [(True, True, False), (False, False, False)]
    present = torch.zeros(10, CELLS)
    present[4:6, 9] = 0.9  # two frames only
    x = (torch.arange(CELLS) + 0.5) * CELL_PX + torch.zeros(10, CELLS)
    reading = ColumnReading(present, x, torch.zeros(10, CELLS, 8), torch.zeros(10, CELLS, 8))
    assert landmarks(reading, torch.zeros(10)) == []


def test_one_landmark_spread_over_two_columns_is_one() -> None:
    present = torch.zeros(6, CELLS)
    present[:, 9], present[:, 10] = 0.9, 0.8
    x = (torch.arange(CELLS) + 0.5) * CELL_PX + torch.zeros(6, CELLS)
    reading = ColumnReading(present, x, torch.zeros(6, CELLS, 8), torch.zeros(6, CELLS, 8))
    assert [f.times for f in landmarks(reading, torch.zeros(6))] == [6]


def test_the_age_of_a_landmark_is_how_long_it_was_off_the_screen() -> None:
    """At 32 px/s with the turn at 640 px: a landmark at 240 px leaves the screen at 320 px."""
    assert recall.age_s(240.0, 640.0) == pytest.approx(2 * 320 / 32)


def test_pictures_without_any_network_find_their_place_in_rendered_video() -> None:
    attributes = torch.tensor([0, 1, 0, 0, 1])
    actions = torch.tensor([ACTIONS.index(a) for a in ("right",) * 20 + ("left",) * 20])
    places = range(0, 224, 16)
    at_out = [max(0, p // 4 - 1) for p in places]
    at_back = [2 * 80 - p // 4 - 1 for p in places]
    video = truth(attributes, actions, 3)
    out, back = descriptors(video[at_out]), descriptors(video[at_back])
    assert retrieval(out, back, 8) == 1.0
    # Another seed has other landmarks, but the same scenery, which is enough to find most places again.
    elsewhere = descriptors(truth(attributes, actions, 4)[at_back])
    hits = retrieval(out, elsewhere, 8)
    assert hits is not None
    assert hits < 1.0
    backwards = retrieval(out, back.flip(0), 8)
    assert backwards is not None
    assert backwards < 0.5
    assert retrieval(out[:7], back[:7], 8) is None


def row(t: float, seed: int, hits: float, *, rendered: bool = False) -> dict[str, Any]:
    likeness = {"same place": 0.5, "other places": 0.0, "another seed": 0.1, "retrieved": 0.4}
    found = [
        {
            "seed": seed + i,
            "turn_px": 64 * t,
            "landmarks": 4,
            "same": [[3.0, 1.0, 1.0, hits], [7.0, 1.0, hits, hits]],
            "chance": [[3.0, 1.0, 0.0, 1.0], [7.0, 0.0, 0.0, 0.0]],
            "read right": 1.0,
            **likeness,
        }
        for i in (0, 1)
    ]
    return {"T": t, "seed": seed, "rendered": rendered, "found": found}


def test_recall_is_summarised_by_length_of_the_way_and_by_age() -> None:
    rows = {
        "a": row(10.0, 0, 1.0),
        "b": row(10.0, 2, 0.0),
        "c": row(5.0, 0, 1.0),
        "d": row(5.0, 0, 1.0, rendered=True),
    }
    summary = recall.summarise(rows)
    by_t, by_age, truths, place = summary.tables
    assert [label for label, _ in by_t.rows] == ["T = 5 s", "T = 10 s"]
    cells = dict(by_t.rows)["T = 10 s"]
    assert [round(c.value, 3) for c in cells if c is not None and not isinstance(c, float)] == [
        1,
        0.75,
        0.5,
        0.5,
        0,
    ]
    assert [label for label, _ in by_age.rows] == ["2.5 to 5 s", "5 to 10 s"]
    assert [label for label, _ in truths.rows] == ["T = 5 s"]
    assert len(place.rows) == 2


def test_the_summary_of_no_rows_is_empty() -> None:
    assert all(not t.rows for t in recall.summarise({}).tables)
