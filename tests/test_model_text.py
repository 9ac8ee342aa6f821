"""The text encoder: padding never changes the answer, and its answers are probabilities."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.model.roles import EncodeText
from tests import tiny

T = tiny.CONFIG.text


@pytest.fixture(scope="module")
def encode() -> EncodeText:
    model = tiny.world_model()
    model.embeddings.copy_(torch.randn(T.vocabulary, T.embedding, generator=torch.Generator().manual_seed(1)))
    return EncodeText(model)


def masked(length: int) -> Tensor:
    return (torch.arange(T.length) < length).float()[None]


@torch.no_grad()
@pytest.mark.parametrize("length", range(1, T.length))
def test_what_stands_in_the_padding_never_changes_the_answer(encode: EncodeText, length: int) -> None:
    ids = torch.arange(1, T.length + 1)[None]
    other = ids.clone()
    other[:, length:] = 9
    for a, b in zip(encode(ids, masked(length)), encode(other, masked(length)), strict=True):
        assert torch.equal(a, b)


@torch.no_grad()
def test_every_word_counts(encode: EncodeText) -> None:
    ids, mask = torch.arange(1, T.length + 1)[None], masked(T.length)
    plain = encode(ids, mask)[0]
    for place in range(T.length):
        other = ids.clone()
        other[:, place] = 9
        assert not torch.equal(encode(other, mask)[0], plain)


@torch.no_grad()
def test_answers_are_probabilities_and_an_empty_prompt_has_one(encode: EncodeText) -> None:
    ids = torch.zeros(1, T.length, dtype=torch.int64)
    for length in (0, 3):
        text, pooled, motion = encode(ids, masked(length))
        assert text.shape == (1, len(T.slots), tiny.DIT.dim)
        assert pooled.shape == (1, tiny.DIT.pooled_dim)
        assert motion.shape == (1, T.slots[-1])
        assert bool(text.isfinite().all())
        assert float(motion.sum()) == pytest.approx(1)


@torch.no_grad()
def test_slots_mix_linearly_so_that_prompts_can_be_blended() -> None:
    """A soft answer gives the mean of what the hard answers give."""
    slots = tiny.dit().text_slots
    hard = [torch.cat([torch.eye(n)[i % n] for n in tiny.DIT.slots])[None] for i in (0, 1)]
    texts = [slots(p)[0] for p in hard]
    torch.testing.assert_close(slots((hard[0] + hard[1]) / 2)[0], (texts[0] + texts[1]) / 2)
