"""diffusers' HeliosPyramidPipeline around a transformer, fed with noise of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.companions.libraries import library
from engine.model.helios.config import HeliosConfig, PyramidConfig
from engine.model.helios.pyramid import block_noise
from engine.types import FloatArray
from tests.rigs.models.helios import scheduler_of_the_checkpoint

Noise = Callable[[int, int, int, tuple[int, ...]], FloatArray]  # row, segment, stream, shape


class OurNoise:
    """Puts our noise into their pipeline, in place of its own and of its Cholesky factor, which fails on a
    CPU: the covariance is singular."""

    def __init__(self, noise: Noise, batch: int, c: HeliosConfig) -> None:
        self.segment, self.stage, self.noise, self.batch, self.c = -1, 0, noise, batch, c

    def into(self, pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pipe, "prepare_latents", self._latents)
        monkeypatch.setattr(pipe, "sample_block_noise", self._blocks)

    def _rows(self, shape: tuple[int, ...]) -> Tensor:
        rows = [self.noise(row, self.segment, self.stage, shape) for row in range(self.batch)]
        return torch.from_numpy(np.stack(rows)).transpose(1, 2)

    def _latents(self, *_: Any, **__: Any) -> Tensor:
        self.segment, self.stage = self.segment + 1, 0
        c = self.c
        return self._rows((c.segment, c.channels, c.latent_height, c.latent_width))

    def _blocks(self, batch: int, channels: int, frames: int, height: int, width: int, *_: Any) -> Tensor:
        self.stage += 1
        white = self._rows((frames, channels, height, width)).numpy()
        return torch.from_numpy(block_noise(white))


def their_video(
    monkeypatch: pytest.MonkeyPatch,
    theirs: Any,
    c: HeliosConfig,
    p: PyramidConfig,
    text: Tensor,
    noise: Noise,
    *,
    segments: int,
    **start: Any,
) -> Tensor:
    """Latents (B, segments W, C, h, w). `start`: their arguments for a start picture."""
    diffusers = library("diffusers")
    vae = diffusers.AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    pipe = diffusers.HeliosPyramidPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=vae.eval(),
        scheduler=scheduler_of_the_checkpoint(),
        transformer=theirs,
        is_distilled=True,
    )
    pipe.set_progress_bar_config(disable=True)
    OurNoise(noise, text.shape[0], c).into(pipe, monkeypatch)
    out: Tensor = pipe(
        prompt_embeds=text,
        height=8 * c.latent_height,
        width=8 * c.latent_width,
        num_frames=segments * c.frames,
        guidance_scale=1.0,
        num_latent_frames_per_chunk=c.segment,
        history_sizes=list(c.history),
        pyramid_num_inference_steps_list=list(p.steps),
        is_amplify_first_chunk=p.first_factor == 2,
        output_type="latent",
        return_dict=False,
        **start,
    )[0]
    return out.transpose(1, 2)
