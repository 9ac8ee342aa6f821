"""`psistream bench steering`: does the video do what the prompt says, and how soon?

Each try opens a scene with a full prompt (as a `cut` does), walks and idles, then reconditions to another
prompt with another place and time. A probe reads the attributes back from the pixels. Tries are independent
seeds; captions come from the world's grammar, `--held-out` uses words that training never saw. Needs torch
for the probe.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from random import Random

import numpy as np
import torch

from engine.backends.base import Backend
from engine.backends.registry import DEFAULT_BACKEND, load_backend
from engine.errors import PsistreamError
from engine.evaluation.probe import Probe, load_probe
from engine.generate import segments
from engine.script import Entry
from engine.types import Action, ByteArray, Prompt
from engine.world.attributes import FIELDS, VALUES
from engine.world.captions import caption

SWITCH_S = 4.0
READ_AFTER_S = (2.0, 3.0, 4.0, 6.0)


def play(backend: Backend, seed: int, first: str, second: str) -> ByteArray:
    """(frames, H, W, 3): a scene of `first`, reconditioned to `second` at SWITCH_S."""
    script = [
        Entry(0.0, Action("right")),
        Entry(2.0, Action("idle")),
        Entry(SWITCH_S, Prompt(second)),
        Entry(SWITCH_S + 2, Action("left")),
    ]
    count = int((SWITCH_S + max(READ_AFTER_S)) / backend.spec.segment_s) + 1
    made = segments(backend, prompt=first, seed=seed, script=script)
    return np.concatenate([s.frames for s in itertools.islice(made, count)])


def read(probe: Probe, video: ByteArray, at_s: float, fps: int) -> list[int]:
    """The probe's majority over the quarter of a second that ends at `at_s`."""
    end = min(int(at_s * fps), len(video))
    frames = torch.from_numpy(video[end - 4 : end].transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        return [int(x) for x in torch.stack([p.mean(0).argmax(-1) for p in probe(frames)])]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="psistream bench steering", description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=20, help="tries")
    parser.add_argument("--run", type=Path, default=Path("runs/wander"), help="where probe.final.pt is")
    parser.add_argument("--model", type=Path, help="exported model (default: the built-in one)")
    parser.add_argument("--backend", default=DEFAULT_BACKEND)
    parser.add_argument("--held-out", action="store_true", help="captions with words that training never saw")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of all tries (PNG)")
    args = parser.parse_args(argv)
    try:
        probe, accuracy = load_probe(args.run)
        backend = load_backend(args.backend, args.model)
    except FileNotFoundError as e:
        print(f"{e.filename} not found: run `psistream train probe --run {args.run}` first", file=sys.stderr)
        return 2
    except PsistreamError as e:
        print(e.message, file=sys.stderr)
        return 2
    rng, fps = Random(2024), backend.spec.fps
    hits: dict[str, list[list[bool]]] = {"cut 3.0 s": [], **{f"recondition {s} s": [] for s in READ_AFTER_S}}
    rows = []
    for seed in range(args.n):
        a = {f: rng.randrange(len(VALUES[f])) for f in FIELDS}
        b = {f: (a[f] + rng.randrange(1, len(VALUES[f]))) % len(VALUES[f]) for f in FIELDS}
        first, second = (caption(x, None, rng, held_out=args.held_out) for x in (a, b))
        video = play(backend, seed, first, second)
        seen = read(probe, video, 3.0, fps)
        hits["cut 3.0 s"].append([s == a[f] for s, f in zip(seen, FIELDS, strict=True)])
        for s in READ_AFTER_S:
            seen = read(probe, video, SWITCH_S + s, fps)
            hits[f"recondition {s} s"].append([x == b[f] for x, f in zip(seen, FIELDS, strict=True)])
        rows.append(np.concatenate(list(video[fps // 2 - 1 :: fps]), 1))
        print(f"{seed + 1}/{args.n}  {first!r} -> {second!r}", flush=True)
    result = {}
    for when, right in hits.items():
        per = np.array(right).mean(0)
        both = float(np.array(right)[:, :2].all(1).mean())
        result[when] = {f: round(float(p), 3) for f, p in zip(FIELDS, per, strict=True)} | {
            "place and time": round(both, 3)
        }
    print(
        f"\nshare of {args.n} tries; the probe itself on held-out renders: "
        + ", ".join(f"{k} {v:.3f}" for k, v in accuracy.items())
    )
    for when, figures in result.items():
        print(f"{when:18s}", "  ".join(f"{k} {v:.2f}" for k, v in figures.items()))
    if args.sheet:
        from PIL import Image

        Image.fromarray(np.concatenate(rows, 0)).save(args.sheet)
    print(json.dumps({"n": args.n, "held_out": args.held_out, "probe": accuracy, "result": result}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
