"""Does the exported model do what PyTorch does, segment after segment?

Both play the same session; errors recur through history and ψ, so this is the comparison that counts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.backends.artifact import open_artifact
from engine.backends.ort import OrtBackend
from engine.backends.reference import ReferenceBackend
from engine.runtime.generator import Generator, Job
from engine.runtime.state import SessionState

PROMPTS = ("a blue robot walks right through a snowy city at night", "a red fox in a meadow at noon")


def compare(folder: Path | None, *, segments: int) -> dict[str, float]:
    """Largest absolute differences over `segments` segments with a recondition in the middle.

    `frames`: of decoded pixels, as a share of 255, beyond the one level that rounding may cost."""
    artifact = open_artifact(folder)
    spec = artifact.spec
    players = [Generator(backend) for backend in (OrtBackend(artifact), ReferenceBackend(artifact))]
    states = [SessionState.zeros(spec) for _ in players]
    for player, state in zip(players, states, strict=True):
        player.start_scene(state, PROMPTS[0], seed=1, scene=0)
    errors = {"latents": 0.0, "psi": 0.0, "history": 0.0, "frames": 0.0}
    for n in range(segments):
        made = []
        for player, state in zip(players, states, strict=True):
            if n == segments // 2:
                player.recondition(state, PROMPTS[1])
            job = Job(state, n % len(spec.actions))
            latents = player.denoise([job])
            assert latents is not None  # only an abort gives None
            made.append(player.finish([job], latents)[0][0])
        a, b = made
        found = {
            "latents": np.abs(a.latents - b.latents).max(),
            "psi": np.abs(states[0].psi - states[1].psi).max(),
            "history": np.abs(states[0].history - states[1].history).max(),
        }
        if a.frames is not None and b.frames is not None:
            levels = np.abs(a.frames.astype(int) - b.frames.astype(int)).max()
            found["frames"] = max(0, levels - 1) / 255
        for name, value in found.items():
            errors[name] = max(errors[name], float(value))
    return errors
