"""A gateway vouches for a client; nobody else can."""

from __future__ import annotations

import pytest

from engine.errors import Forbidden
from server.http.edge.vouching import WINDOW_S, ClocksDiffer, Passed, vouch, vouched

KEY, NOW_S, TARGET = b"0123456789abcdef", 1_800_000_000.5, b"/v1/sessions/g2-abc?codec=vp8"


@pytest.mark.parametrize("client", ["192.0.2.7", "2001:db8::7", "fe80::1%eth0", "unknown"])
def test_who_has_the_key_is_believed(client: str) -> None:
    header = vouch(KEY, Passed(client, "https"), "POST", TARGET, NOW_S)
    for later_s in (0.0, -WINDOW_S + 1, WINDOW_S - 1):
        assert vouched(KEY, header, "POST", TARGET, NOW_S + later_s) == (client, "https")


def test_while_the_key_is_replaced_all_of_a_file_are_believed() -> None:
    """The first key of a file is the one that it vouches with."""
    old, new = KEY, b"another key of some length"
    both, after = old + b"\n" + new, new + b"\n" + old
    believed = {(old, old), (old, both), (old, after), (both, old), (both, both), (both, after)}
    believed |= {(after, both), (after, after), (after, new), (new, both), (new, after), (new, new)}
    for one in (old, both, after, new):
        header = vouch(one, Passed("192.0.2.7", "http"), "GET", TARGET, NOW_S)
        for other in (old, both, after, new):
            if (one, other) in believed:
                assert vouched(other, header, "GET", TARGET, NOW_S).client == "192.0.2.7"
            else:
                with pytest.raises(Forbidden, match="the same --join-key-file"):
                    vouched(other, header, "GET", TARGET, NOW_S)


def test_a_proof_counts_for_one_request_and_not_for_long() -> None:
    header = vouch(KEY, Passed("192.0.2.7", "http"), "POST", TARGET, NOW_S)
    for key, method, target, now_s in (
        (b"another key of some length", "POST", TARGET, NOW_S),
        (b"", "POST", TARGET, NOW_S),  # of a cluster without a key
        (KEY, "GET", TARGET, NOW_S),
        (KEY, "POST", TARGET[:-1], NOW_S),
        (KEY, "POST", TARGET, NOW_S + WINDOW_S + 2),
        (KEY, "POST", TARGET, NOW_S - WINDOW_S - 2),
    ):
        late = abs(now_s - NOW_S) > WINDOW_S
        with pytest.raises(ClocksDiffer if late else Forbidden):
            vouched(key, header, method, target, now_s)


@pytest.mark.parametrize("change", ["198.51.100.1", "", "192.0.2.7 192.0.2.8", "\x00"])
def test_the_address_cannot_be_changed(change: str) -> None:
    header = vouch(KEY, Passed("192.0.2.7", "http"), "GET", TARGET, NOW_S).replace("192.0.2.7", change)
    with pytest.raises(Forbidden):
        vouched(KEY, header, "GET", TARGET, NOW_S)


@pytest.mark.parametrize("header", ["", " ", "a b c d", "1 2 3", "x" * 5000, "é é é é"])
def test_garbage_is_refused(header: str) -> None:
    with pytest.raises(Forbidden):
        vouched(KEY, header, "GET", TARGET, NOW_S)
