"""Rows of a batch of episodes, for tests that compare a batch with a part of it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from torch import Tensor

from engine.world.episodes import Episodes


def rows(episodes: Episodes, which: Tensor) -> Episodes:
    def chosen(value: Any) -> Any:
        return {k: v[which] for k, v in value.items()} if isinstance(value, dict) else value[which]

    return Episodes(**{f.name: chosen(getattr(episodes, f.name)) for f in fields(episodes)})
