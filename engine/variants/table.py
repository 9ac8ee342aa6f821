"""The table of variants: measurements, differences over the same seeds, ELO, and the paper's figures.

Reads the rows that figures have stored. engine.variants.markdown renders it as text.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from engine.evaluation.figure import Row
from engine.evaluation.figures.elo import VideoScore, elo
from engine.evaluation.figures.recall import COLUMNS as RECALLED
from engine.evaluation.figures.recall import FRAMEPACK_S
from engine.evaluation.figures.walk import changes, figures
from engine.evaluation.psi.returns import VIEWS, summary
from engine.evaluation.statistics import Estimate, mean, share

PAPER: Final = Path(__file__).parent / "paper.toml"
RIGHT: Final = "kind and colour right"
# our figure for the paper's column; columns that this world cannot measure are missing
STANDS_FOR: Final[Mapping[str, str]] = {
    "imaging": "distance",
    "dynamic": "dynamic",
    "smoothness": "smoothness",
    "background": "background",
    "subject": "subject",
    "Δ imaging": "Δ distance",
    "Δ background": "Δ background",
    "Δ subject": "Δ subject",
    "ELO": "ELO",
}
FALLS: Final = "imaging"  # our distance falls when this rises
DRIFTS: Final = ("distance", "all named", "background", "subject")


@dataclass(frozen=True)
class MeasuredVariant:
    """Everything measured of one variant."""

    name: str
    title: str
    walks: Sequence[Row]  # of engine.evaluation.figures.walk, in order of seed
    journeys: Sequence[Row] = ()  # of engine.evaluation.figures.recall
    returns: Mapping[str, Sequence[float]] = field(default_factory=dict)  # of engine.evaluation.psi.returns
    left: Mapping[int, Sequence[float]] = field(default_factory=dict)  # of engine.evaluation.psi.forgetting
    control: str = ""
    paper: Sequence[str] = ()
    trained: Mapping[str, float] = field(default_factory=dict)
    plays: bool = True  # a variant, not the world itself


Cells = dict[str, Estimate | None]


def cells(v: MeasuredVariant) -> Cells:
    """All figures of a variant except ELO."""
    out: Cells = dict(figures(list(v.walks)))
    out |= {f"Δ {name}": mean(changes(list(v.walks), name)) for name in DRIFTS}
    out |= recall(v.journeys)
    if v.returns:
        worth = summary(v.returns)
        out |= {
            "error at returns": worth["error"],
            "ψ beyond the window, %": worth["short"],
            "ψ of its own, %": worth["another"],
            "views beyond the window, %": worth.get(VIEWS),
        }
    out |= {f"ψ left after {k}": mean(shares) for k, shares in v.left.items()}
    return out


def recall(rows: Sequence[Row]) -> Cells:
    """The share of landmarks drawn again in the right kind and colour after they were out of sight for longer
    than FramePack's history; and the chance level, against another seed's journey."""
    found = [f for r in rows for f in r["found"]]
    out: Cells = {}
    for name, key in (("recall", "same"), ("recall by chance", "chance")):
        rates = []
        for f in found:
            old = [RECALLED[RIGHT](m) for m in f[key] if m[0] > FRAMEPACK_S]
            rates += [sum(old) / len(old)] if old else []
        out[name] = share(rates)
    return out


def ratings(found: Sequence[MeasuredVariant]) -> dict[str, Estimate]:
    """ELO of all variants, over the seeds that all of them have played."""
    players = [v for v in found if v.plays]
    by_seed = [{r["seed"]: r["whole"] for r in v.walks} for v in players]
    if len(players) < 2:
        return {}
    seeds = sorted(set.intersection(*(set(rows) for rows in by_seed)))
    if not seeds:
        return {}
    videos = [[VideoScore(w[s]["all named"], w[s]["distance"]) for w in by_seed] for s in seeds]
    return {v.name: rating for v, rating in zip(players, elo(videos), strict=True)}


def difference(a: MeasuredVariant, b: MeasuredVariant, name: str) -> Estimate | None:
    """a − b over the seeds that both have."""
    own, other = _values(a, name), _values(b, name)
    return mean([own[s] - other[s] for s in sorted(own.keys() & other.keys())])


def _values(v: MeasuredVariant, name: str) -> dict[int, float]:
    """A figure per seed, for the seeds that have it."""
    if name == "error at returns":
        return dict(enumerate(v.returns.get("own", ())))
    if name.startswith("Δ "):
        key = name.removeprefix("Δ ")
        pairs = {r["seed"]: [end[key] for end in r["ends"]] for r in v.walks}
        return {s: abs(x[1] - x[0]) for s, x in pairs.items() if None not in x}
    found = {r["seed"]: r["whole"].get(name) for r in v.walks}
    return {s: x for s, x in found.items() if x is not None}


@dataclass(frozen=True)
class PaperTable:
    title: str
    rows: Mapping[str, Mapping[str, float]]  # by name, then by column


def paper() -> list[PaperTable]:
    """The paper's tables, from PAPER."""
    data = tomllib.loads(PAPER.read_text())
    columns = data["columns"]
    return [
        PaperTable(t["title"], {r[0]: dict(zip(columns, r[1:], strict=False)) for r in t["rows"]})
        for t in data["tables"]
    ]


@dataclass(frozen=True)
class Claim:
    """The paper's difference between two of its rows in one column, and our difference between the same
    variants."""

    table: str
    better: str
    than: str
    column: str
    theirs: float
    ours: Estimate
    verdict: str  # agrees, disagrees, not resolved


def claims(found: Sequence[MeasuredVariant]) -> list[Claim]:
    """All pairs of the paper's rows that match two of our variants, in the columns that match ours.

    A claim is not resolved if the interval of our difference includes zero."""
    by_row = {row: v for v in found for row in v.paper}
    out = []
    for t in paper():
        names = [n for n in t.rows if n in by_row]
        for i, a in enumerate(names):
            for b in names[i + 1 :]:
                out += [c for column in STANDS_FOR if (c := _claim(t, b, a, column, by_row[b], by_row[a]))]
    return out


def _claim(
    t: PaperTable, a: str, b: str, column: str, ours_a: MeasuredVariant, ours_b: MeasuredVariant
) -> Claim | None:
    """a − b. ELO is left to the ratings, since it has no value per seed."""
    name = STANDS_FOR[column]
    if column == "ELO" or column not in t.rows[a] or ours_a is ours_b:
        return None
    theirs, ours = t.rows[a][column] - t.rows[b][column], difference(ours_a, ours_b, name)
    if ours is None or math.isnan(ours.low):
        return None
    verdict = "not resolved"
    if ours.low > 0 or ours.high < 0:
        same = (ours.value > 0) == (theirs > 0)
        verdict = "agrees" if same != (column == FALLS) else "disagrees"
    return Claim(t.title, a, b, column, theirs, ours, verdict)


def to_json(found: Sequence[MeasuredVariant], head: Mapping[str, Any]) -> dict[str, Any]:
    """The table as JSON. Our shares are between 0 and 1, as measured; the paper's are in per cent, as
    printed."""
    elos = ratings(found)
    return {
        **head,
        "variants": {
            v.name: {
                "title": v.title,
                "trained": dict(v.trained),
                "figures": {n: _plain(c) for n, c in cells(v).items()} | {"ELO": _plain(elos.get(v.name))},
            }
            for v in found
        },
        "claims": [{**c.__dict__, "ours": _plain(c.ours)} for c in claims(found)],
        "paper": [{"title": t.title, "rows": t.rows} for t in paper()],
    }


def _plain(cell: Estimate | None) -> dict[str, Any] | None:
    if cell is None:
        return None
    return {k: None if isinstance(x, float) and math.isnan(x) else x for k, x in cell._asdict().items()}
