"""The pool of episodes: the same again for the same part, kept on disk, bounded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.training.data.latents import PART, EpisodePool, Pool, Source, cache_folder
from tests.rigs.engine import tiny

WORLD = (16, 12, 20)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    autoencoder = tiny.world_model().autoencoder
    return Source(autoencoder, "mixed", 2, cache=cache_folder(tmp_path, autoencoder))


def same(a: Pool, b: Pool) -> bool:
    return all(torch.equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


def test_a_part_is_a_function_of_its_number_seed_and_stream(source: Source) -> None:
    fresh = replace(source, cache=None)
    first = fresh.make(3, 1)
    assert first.latents.shape == (1, 2, *WORLD)
    assert same(first, fresh.make(3, 1))
    for other in (replace(fresh, seed=1), replace(fresh, name="held-out")):
        assert not same(first, other.make(3, 1))
    assert not same(first, fresh.make(4, 1))


def test_what_was_made_once_is_read_again(source: Source) -> None:
    made = source.make(0, 1)
    path = source.path(0)
    assert path is not None
    modified = path.stat().st_mtime_ns
    assert same(made, source.make(0, 1))
    assert path.stat().st_mtime_ns == modified
    path.write_bytes(b"torn")
    assert same(made, source.make(0, 1))


def test_latents_of_another_autoencoder_lie_elsewhere(tmp_path: Path) -> None:
    folders = {cache_folder(tmp_path, tiny.world_model(seed=s).autoencoder) for s in (0, 0, 1)}
    assert len(folders) == 2


def test_the_pool_grows_to_its_limit_and_forgets_the_oldest(
    source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = EpisodePool(source, start=PART, limit=2 * PART, every=10)
    assert len(pool.at(0)) == PART
    assert len(pool.at(10)) == len(pool.at(25)) == 2 * PART
    latest = pool.at(25)
    assert same(latest.first(PART), source.make(2))
    files = sorted(p.name for p in source.cache.iterdir()) if source.cache else []
    assert len(files) == 2
    assert "mixed: 8 of 8 episodes" in capsys.readouterr().out
    # a resumed run holds the same, without having been there before
    resumed = EpisodePool(source, start=PART, limit=2 * PART, every=10)
    assert same(resumed.at(25), latest)
