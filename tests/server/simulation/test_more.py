"""Histories in which more happens than that sessions are opened, steered, watched, moved and closed.

`branches`: sessions are forked, go back, and are opened again from snapshots. Forks and what is opened again
begin with the controls that were on the screen, and keep them.

`stores`: gateways save their sessions in a store, which is away now and then; all die at once, and some never
return. What was saved comes back once, and none that was closed.

`limits`: workers are full, and clients use up their shares. Gateways count as many sessions of a client as it
has, workers throttle whom the owner throttles, and in the end whoever asks gets a place while there is one.
"""

from __future__ import annotations

import pytest

from tests.rigs.simulation.seeds import wrong

FIRST, MANY = 3, 28


@pytest.mark.parametrize("more", ["branches", "stores", "limits"])
def test_more(more: str) -> None:
    assert wrong(range(FIRST), joined=True, more=[more]) == {}


@pytest.mark.slow
@pytest.mark.parametrize("more", ["branches", "stores", "limits"])
def test_more_in_many_histories(more: str) -> None:
    assert wrong(range(FIRST, MANY), joined=True, more=[more]) == {}


@pytest.mark.parametrize("joined", [True, False])
def test_divided_networks(joined: bool) -> None:
    """Gateways and workers are cut off from each other in two halves, and sessions are closed in one: once
    the halves meet, each open session is in one place, and no closed one anywhere."""
    assert wrong(range(FIRST), joined=joined, more=["divisions"]) == {}


@pytest.mark.slow
@pytest.mark.parametrize("joined", [True, False])
def test_divided_networks_in_many_histories(joined: bool) -> None:
    assert wrong(range(FIRST, MANY), joined=joined, more=["divisions"]) == {}
