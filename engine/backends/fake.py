"""A deterministic fake model: cheap arithmetic that implements the whole step contract.

For tests, demos and benchmarks of everything around a model. Costs and failures of calls can be set. Names,
shapes and dtypes are checked strictly. Its pictures show the inputs: the background has the colour of the
prompt, stripes shift with the camera (left, right), a block jumps, the band at the top is ψ, the ground's
texture is the noise. ψ and history are order-sensitive, so a runtime that mixes up steps or sessions is
visible. Each row of a batch is computed alone, so results never depend on the batch. Sessions and time are
unknown here.

Legend: B batch, W latent frames, C channels, h w latent size, F pixel frames per latent, H W pixels, D width.
Latent channels: 0-2 colour, 3 camera (periods), 4 jump, 5 ψ, 7 history, 8 index, 9 sigma, 10 anchor, the rest
is noise. What is kept of places is the colour that was seen there; 12 shows it, the way and the plan.
"""

from __future__ import annotations

import importlib
import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from engine.backends.base import Arrays, Noise, Sampler
from engine.backends.fake_device import FakeDevice, read_settings
from engine.backends.fake_pictures import STRIPE_PX, draw
from engine.backends.samplers import make_sampler
from engine.errors import BackendError
from engine.model.signature import ModelSpec, Tensor, signature
from engine.types import FloatArray, IntArray

FAKE_SPEC = ModelSpec(
    name="fake",
    height=96,
    width=160,
    fps=16,
    latent_channels=16,
    latent_height=12,
    latent_width=20,
    frames_per_latent=4,
    segment=2,
    history=(16, 2, 1),
    text_length=16,
    text_tokens=8,
    image_tokens=8,
    model_dim=32,
    decoder_state=(16, 12, 20),
    actions=("idle", "left", "right", "jump"),
    steps=2,
    first_steps=4,
    place_columns=4,
    landmarks=8,
    landmark_kinds=("tree", "house"),
    landmark_colours=("red", "blue", "green"),
    landmark_spacing_px=107,
    landmark_jitter_px=12,
)
COLOURS = {
    "red": (200, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 70, 200),
    "yellow": (220, 200, 60),
    "white": (235, 235, 235),
    "black": (20, 20, 20),
    "night": (20, 25, 70),
    "snowy": (215, 225, 240),
}
FAIL_WORD, NAN_WORD = "boom", "nan"  # a prompt with one of these makes `denoise` fail, or return NaN
STEP_PX = 8  # of the camera per latent frame
_WORDS, _FAULT = 1024, 100.0
_SPECIAL = [*COLOURS, FAIL_WORD, NAN_WORD]
_NOISY = (6, 11, 13, 14, 15)

Row = dict[str, npt.NDArray[Any]]


class FakeBackend(FakeDevice):
    """`told` sets the device's costs and failures: see FakeDevice."""

    name, fingerprint = "fake", "arithmetic"

    def __init__(self, spec: ModelSpec | None = None, **told: Any) -> None:
        super().__init__(**told)
        self.spec = spec or FAKE_SPEC
        s = self.spec
        frame = (s.latent_channels, s.latent_height, s.latent_width)
        if s.latent_channels < 16 or (s.has_decoder_state and s.decoder_state != frame):
            raise ValueError("the fake needs 16 latent channels or more, and a latent frame as decoder state")
        self.closed = False
        self._roles = signature(s)
        self._rows: dict[str, Callable[[Row], Row]] = {
            "encode_text": self._encode_text,
            "encode_image": self._encode_image,
            "embed_image": self._embed_image,
            "initial_memory": self._initial_memory,
            "memorize": self._memorize,
            "squeeze": self._squeeze,
            "denoise": self._denoise,
            "decode": self._decode,
            "keep": self._keep,
        }
        self._table = self._word_table()

    def run(self, role: str, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        if role not in self._roles:
            raise BackendError(f"unknown role {role!r}; known are {sorted(self._roles)}", field=role)
        batch = _check(role, "input", self._roles[role].inputs, inputs)
        self.called(role, batch)
        rows = [self._rows[role]({k: v[b] for k, v in inputs.items()}) for b in range(batch)]
        outputs = {k: np.stack([row[k] for row in rows]) for k in rows[0]}
        _check(role, "output", self._roles[role].outputs, outputs)
        return outputs

    def tokenize(self, text: str) -> tuple[IntArray, FloatArray]:
        """One id per word, after a start token; colours, actions and faults have ids of their own."""
        special = [*_SPECIAL, *self.spec.actions]
        ids, mask = np.zeros(self.spec.text_length, np.int64), np.zeros(self.spec.text_length, np.float32)
        mask[0] = 1.0
        words = re.findall(r"\w+", text.lower())[: self.spec.text_length - 1]
        for i, word in enumerate(words, start=1):
            free = 1 + len(special)
            hashed = free + zlib.crc32(word.encode()) % (_WORDS - free)
            ids[i] = 1 + special.index(word) if word in special else hashed
            mask[i] = 1.0
        return ids, mask

    def sampler(self, steps: int, noise: Noise) -> Sampler:
        return make_sampler(self.spec, steps, noise)

    def close(self) -> None:
        self.closed = True

    # ---- the roles, one row of a batch each ----

    def _word_table(self) -> FloatArray:
        """(words, D): colour times weight, weight, fail, nan, then plain features."""
        table = np.random.Generator(np.random.Philox(7)).random((_WORDS, self.spec.model_dim), np.float32)
        table[:, 3] = 0.02
        table[:, 4:6] = 0.0
        table[:, :3] = (0.2 + 0.6 * table[:, :3]) * 0.02
        for i, rgb in enumerate(COLOURS.values(), start=1):
            table[i, :3], table[i, 3] = np.array(rgb, np.float32) / 255, 1.0
        table[1 + _SPECIAL.index(FAIL_WORD), 4] = table[1 + _SPECIAL.index(NAN_WORD), 5] = 100 * _FAULT
        return table

    def _encode_text(self, row: Row) -> Row:
        s, words = self.spec, [int(i) for i, m in zip(row["ids"], row["mask"], strict=True) if m > 0]
        motion = np.zeros(len(s.actions) + 1, np.float32)
        motion[0] = 0.5
        for word in words:
            action = word - 1 - len(_SPECIAL)
            if 0 <= action < len(s.actions):
                motion[action + 1] += 1.0
        said = [self._said(values, words) for values in s.choices.values()]
        fills = zip(said, row.get("fill", ()), s.choices.values(), strict=True)
        words += [self._id(values[fill - 1]) for one, fill, values in fills if fill and not one]
        text = np.zeros((s.text_tokens, s.model_dim), np.float32)
        pooled = np.zeros(s.model_dim, np.float32)
        for i, word in enumerate(words):
            text[i % s.text_tokens] += self._table[word % _WORDS] * np.float32(1 + i)
            pooled += self._table[word % _WORDS] / np.float32(max(1, len(words)))
        told = {"said": np.array(said, np.int64)} if said else {}
        return {"text": text, "pooled": pooled, "motion": motion, **told}

    def _id(self, word: str) -> int:
        return int(self.tokenize(word)[0][1])

    def _said(self, values: tuple[str, ...], words: list[int]) -> int:
        """Which value, counted from 1, the words name; 0: none."""
        return next((i for i, value in enumerate(values, 1) if self._id(value) in words), 0)

    def _encode_image(self, row: Row) -> Row:
        s = self.spec
        sy, sx = s.height // s.latent_height, s.width // s.latent_width
        pixels = row["pixels"][:, : sy * s.latent_height, : sx * s.latent_width].astype(np.float32) / 255
        anchor = np.zeros((1, s.latent_channels, s.latent_height, s.latent_width), np.float32)
        anchor[0, :3] = pixels.reshape(3, s.latent_height, sy, s.latent_width, sx).mean((2, 4))
        return {
            "anchor": anchor,
            "state": anchor[0],
            **self._embed_image({"anchor": anchor, "context": np.ones((), np.float32)}),
        }

    def _embed_image(self, row: Row) -> Row:
        s, a = self.spec, row["anchor"][0]
        tokens = np.resize(a[:, ::4, ::4], (s.image_tokens, s.model_dim))
        return {"image": (tokens * row["context"]).astype(np.float32)}

    def _initial_memory(self, row: Row) -> Row:
        return {"psi": np.concatenate([row["text"], row["image"]])}

    def _memorize(self, row: Row) -> Row:
        s, m = self.spec, np.zeros((self.spec.memory_tokens, self.spec.model_dim), np.float32)
        for i, latent in enumerate(row["segment"]):  # later frames have more weight
            m += np.resize(latent[:, ::3, ::5], m.shape) * np.float32((i + 1) / s.segment)
        return {"memory": m}

    def _squeeze(self, row: Row) -> Row:
        return {"psi_next": np.float32(0.75) * np.roll(row["psi"], 1, 0) + np.float32(0.25) * row["memory"]}

    def _denoise(self, row: Row) -> Row:
        x, context, pooled, history = row["x"], row["context"], row["pooled"], row["history"]
        if pooled[4] > _FAULT:
            raise BackendError(f"the fake backend fails on the word {FAIL_WORD!r}")
        target = x + np.float32(0.1) * (history[-1] - x)  # (W, C, h, w): noise, with a small part of the past
        colour = pooled[:3] / np.maximum(pooled[3], 1e-3)
        keep = np.float32(0.3) * context
        target[:, :3] = keep * row["anchor"][:, :3] + (1 - keep) * colour[:, None, None]
        camera = float(history[-1, 3, 0, 0])
        for i, action in enumerate(row["actions"]):
            name = self.spec.actions[int(action)]
            camera += {"left": -STEP_PX, "right": STEP_PX}.get(name, 0) / STRIPE_PX
            target[i, 3] = camera = camera % 1.0
            target[i, 4] = name == "jump"
        weights = np.arange(1, len(history) + 1, dtype=np.float32)
        target[:, 5] = row["psi"][:, 5:].mean() + row["image"].mean() + np.float32(0.01) * row["text"].mean()
        target[:, 7] = (history[:, 6, 0, 0] * weights).sum() / weights.sum()
        target[:, 8], target[:, 9], target[:, 10] = (
            row["index"] % 256 / 256,
            row["sigma"],
            row["anchor"].mean(),
        )
        if self.spec.place_columns:
            told = row["odometer"] + row["acted"].mean() + row["look"]
            plan = row["landmarks"].mean() if row["landmarks"].size else 0
            target[:, 12] = row["views"].mean() + row["marks"].mean() + 0.01 * told + 0.001 * plan
        velocity = (target - x) / np.maximum(1 - row["t"], row["d"])
        velocity[:, _NOISY] = (target - x)[:, _NOISY]
        if pooled[5] > _FAULT:
            velocity[:] = np.nan
        return {"velocity": velocity.astype(np.float32)}

    def _keep(self, row: Row) -> Row:
        """The segment's first column in the place that the odometer counts to."""
        names = [self.spec.actions[int(action)] for action in row["actions"]]
        odometer = row["odometer"] + names.count("right") - names.count("left")
        views, marks = row["views"].copy(), row["marks"].copy()
        at = int(odometer) % self.spec.place_columns
        if marks[at, 0] == 0 or marks[at, 2] != row["look"]:
            views[at] = row["segment"][-1, :, :, 0]
            marks[at] = 1, odometer, row["look"] - 0.5 * (1 - row["settled"]), 0
        return {
            "odometer_next": np.asarray(odometer, np.int64),
            "views_next": views,
            "marks_next": marks,
        }

    def _decode(self, row: Row) -> Row:
        frames, last = [], row["state"]
        for latent in row["latents"]:
            frames.append(draw(self.spec, last, latent, self.busy))
            last = latent
        return {"frames": np.concatenate(frames), "state_next": last.copy()}


def load(path: Path | None = None) -> FakeBackend:
    """Like the other backends' `load`. There is no model to read, but a `fake.json` makes the device slow or
    faulty: `{"delay_s": 0.5, "jitter": 0.2}` takes a second for half a second of video. `actions` gives the
    model other actions, `"shape": "helios"` the shape of Helios. Raises ModelFilesError."""
    settings = {} if path is None else read_settings(path / "fake.json")
    if settings.pop("shape", "") == "helios":
        return cast(
            FakeBackend, importlib.import_module("engine.backends.fake_pyramid").FakePyramid(**settings)
        )
    actions = settings.pop("actions", FAKE_SPEC.actions)
    return FakeBackend(replace(FAKE_SPEC, actions=actions), **settings)


def _check(role: str, kind: str, tensors: tuple[Tensor, ...], arrays: Arrays) -> int:
    """The batch size. Raises BackendError if names, shapes or dtypes break the contract."""
    if {t.name for t in tensors} != set(arrays):
        raise BackendError(
            f"{role}: {kind}s are {sorted(arrays)}, must be {[t.name for t in tensors]}", field=role
        )
    batches = set()
    for t in tensors:
        a = arrays[t.name]
        if a.ndim == 0 or a.shape[1:] != t.shape or a.dtype != np.dtype(t.dtype):
            raise BackendError(
                f"{role}: {kind} {t.name!r} is {a.dtype}{a.shape}, must be {t.dtype}(B, *{t.shape})",
                field=t.name,
            )
        batches.add(a.shape[0])
    if len(batches) != 1 or 0 in batches:
        raise BackendError(
            f"{role}: {kind}s differ in batch size or are empty: {sorted(batches)}", field=role
        )
    return int(batches.pop())
