"""The autoencoder: decoding in pieces equals decoding at once, and nothing looks ahead."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.model.pixels import to_bytes, to_unit
from engine.model.wander.autoencoder import Autoencoder
from tests.rigs.engine import tiny

LENGTH = 7


@pytest.fixture(scope="module")
def model() -> Autoencoder:
    return tiny.world_model().autoencoder


@pytest.fixture(scope="module")
def latents() -> Tensor:
    return torch.randn(2, LENGTH, 16, 6, 10, generator=torch.Generator().manual_seed(1))


def start(latents: Tensor) -> Tensor:
    return torch.zeros_like(latents[:, 0])


@torch.no_grad()
@pytest.mark.parametrize("pieces", [(1,) * LENGTH, (2, 2, 2, 1), (4, 3), (1, 5, 1)])
def test_decoding_in_pieces_equals_decoding_at_once(
    model: Autoencoder, latents: Tensor, pieces: tuple[int, ...]
) -> None:
    whole, last = model.decode(latents, start(latents))
    state, out = start(latents), []
    for piece in latents.split(list(pieces), 1):
        frames, state = model.decode(piece, state)
        out.append(frames)
    torch.testing.assert_close(torch.cat(out, 1), whole, atol=1e-6, rtol=0)
    assert torch.equal(state, last)


@torch.no_grad()
def test_a_latent_changes_its_own_frames_and_the_next_four_and_none_before(
    model: Autoencoder, latents: Tensor
) -> None:
    other = latents.clone()
    other[:, 3] += 1
    a, b = (model.decode(x, start(x))[0] for x in (latents, other))
    changed = (a != b).flatten(2).any(-1).all(0)
    assert changed.tolist() == [12 <= frame < 20 for frame in range(4 * LENGTH)]


@torch.no_grad()
def test_a_frame_changes_only_its_own_latent(model: Autoencoder) -> None:
    pixels = torch.rand(1, 12, 3, 48, 80, generator=torch.Generator().manual_seed(2)) * 2 - 1
    other = pixels.clone()
    other[:, 5] = 0
    changed = (model.encode(pixels) != model.encode(other)).flatten(2).any(-1)[0]
    assert changed.tolist() == [False, True, False]


@torch.no_grad()
def test_an_image_is_a_still_of_four_frames(model: Autoencoder) -> None:
    pixels = torch.rand(2, 3, 48, 80, generator=torch.Generator().manual_seed(3))
    anchor = model.encode_image(pixels)
    assert anchor.shape == (2, 1, 16, 6, 10)
    assert torch.equal(anchor, model.encode(torch.stack([pixels] * 4, 1)))


@torch.no_grad()
def test_latents_are_normalised_by_mean_and_deviation_and_decoded_back(latents: Tensor) -> None:
    """Statistics are fitted after training: they must not change what a picture decodes to."""
    pixels = torch.rand(1, 8, 3, 48, 80, generator=torch.Generator().manual_seed(4))
    model = tiny.world_model().autoencoder
    model.mean.zero_()
    model.std.fill_(1)
    raw = model.encode(pixels)
    before = model.decode(raw[:, 1:], raw[:, 0])[0]
    model.mean.copy_(raw.mean((0, 1, 3, 4)))
    model.std.copy_(raw.std((0, 1, 3, 4)))
    z = model.encode(pixels)
    torch.testing.assert_close(z.mean((0, 1, 3, 4)), torch.zeros(16), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std((0, 1, 3, 4)), torch.ones(16), atol=1e-4, rtol=0)
    torch.testing.assert_close(model.decode(z[:, 1:], z[:, 0])[0], before, atol=1e-4, rtol=1e-4)


def test_every_byte_survives_the_way_to_floats_and_back() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_bytes(to_unit(every)), every)
    assert to_bytes(torch.tensor([-9.0, 9.0])).tolist() == [0, 255]
