"""The links of the table in `docs/operations.md`, and how each changes over time. Plain data."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.network.emulator import NetworkCondition

MS = 0.001


@dataclass(frozen=True)
class Scenario:
    """A link over time. `steps` are seconds and the condition from then on; figures count from `settled_s`.
    Times begin with the page's first picture if `from_picture`, otherwise when the player starts."""

    name: str
    about: str
    seconds: float
    steps: tuple[tuple[float, NetworkCondition], ...]
    settled_s: float = 5.0
    from_picture: bool = False


def steady(name: str, about: str, condition: NetworkCondition, seconds: float = 30.0) -> Scenario:
    return Scenario(name, about, seconds, ((0.0, condition),))


def capped(kbps: int) -> Scenario:
    return steady(
        f"cap-{kbps}", f"cap of {kbps} kb/s", NetworkCondition(cap_bps=1000 * kbps, delay_s=20 * MS)
    )


def lossy(percent: int) -> Scenario:
    condition = NetworkCondition(loss=percent / 100, delay_s=50 * MS)
    return steady(f"loss-{percent}", f"{percent} % loss, 50 ms", condition, 65.0)


GOOD = NetworkCondition(cap_bps=2e6, delay_s=20 * MS)
DROP = Scenario(
    "drop",
    "2 Mb/s, then 400 kb/s for 20 s, then 2 Mb/s",
    60.0,
    ((0.0, GOOD), (15.0, NetworkCondition(cap_bps=400e3, delay_s=20 * MS)), (35.0, GOOD)),
)
SCENARIOS = {
    s.name: s
    for s in (
        steady("good", "20 ms", NetworkCondition(delay_s=20 * MS)),
        *(lossy(percent) for percent in (5, 10, 20)),
        *(capped(kbps) for kbps in (1000, 600, 300, 100)),
        DROP,
        steady("tunnel", "packets above 1280 bytes vanish", NetworkCondition(mtu=1280, delay_s=20 * MS)),
    )
}


def outage(seconds: float) -> Scenario:
    """The link is down for this long, 10 s after the start."""
    down = NetworkCondition(delay_s=20 * MS, up=False)
    steps = (
        (0.0, NetworkCondition(delay_s=20 * MS)),
        (10.0, down),
        (10.0 + seconds, NetworkCondition(delay_s=20 * MS)),
    )
    return Scenario(f"outage-{seconds:g}", f"outage of {seconds:g} s", 25.0 + seconds, steps)


SCENARIOS |= {s.name: s for s in map(outage, (3, 8, 14, 40))}
