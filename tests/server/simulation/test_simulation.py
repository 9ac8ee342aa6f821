"""Random histories of small clusters, in virtual time: real gateways, workers' hosts and directory, and
pretended devices and networks.

What a seed does is shortened by `python -m tests.rigs.simulation.shrink SEED`."""

from __future__ import annotations

import pytest

from tests.rigs.simulation.seeds import wrong

FIRST, MANY = 12, 100


@pytest.mark.parametrize("joined", [True, False])
def test_whatever_happens_each_session_is_in_one_place_in_the_end(joined: bool) -> None:
    """Each control has taken effect once, in order, and its receipt says so."""
    assert wrong(range(FIRST), joined=joined) == {}


@pytest.mark.slow
@pytest.mark.parametrize("joined", [True, False])
def test_so_it_is_in_many_histories(joined: bool) -> None:
    assert wrong(range(FIRST, MANY), joined=joined) == {}
