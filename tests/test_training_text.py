"""Captions as training examples: what a caption says is what is asked of the encoder."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch

from engine.backends.artifact import TOKENIZER
from engine.backends.tokens import PromptTokenizer
from engine.model.text import TextConfig, TextEncoder
from engine.training.text import batch_of_captions, loss_of, roughen
from engine.world.attributes import ACTIONS, FIELDS, VALUES
from tests import tiny


@pytest.fixture
def tokenizer(tmp_path: Path) -> PromptTokenizer:
    tiny.write_text_files(tmp_path)
    return PromptTokenizer(tmp_path / TOKENIZER, 32)


def test_answers_fit_the_slots_and_unsaid_is_among_them(tokenizer: PromptTokenizer) -> None:
    ids, mask, said = batch_of_captions(tokenizer, Random(1), 200)
    assert ids.shape == mask.shape == (200, 32)
    assert bool((mask.sum(1) > 0).all())
    sizes = [1 + len(VALUES[f]) for f in FIELDS] + [1 + len(ACTIONS)]
    assert list(TextConfig().slots) == sizes
    assert said.shape == (200, len(sizes))
    assert said.amin(0).tolist() == [0] * len(sizes)
    assert said.amax(0).tolist() == [n - 1 for n in sizes]


def test_captions_come_from_the_seed_alone(tokenizer: PromptTokenizer) -> None:
    a, b = (batch_of_captions(tokenizer, Random(2), 20) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_foreign_words_are_added_after_the_prompt_and_replace_none_of_it(tokenizer: PromptTokenizer) -> None:
    torch.manual_seed(0)
    ids, mask, _ = batch_of_captions(tokenizer, Random(3), 100)
    rough, rough_mask = roughen(ids, mask, 30522)
    assert torch.equal(rough[mask == 1], ids[mask == 1])
    assert bool((rough_mask >= mask).all())
    assert bool((rough[rough_mask > mask] >= 1000).all())
    assert 0 < float((rough_mask - mask).mean()) < 0.05


def test_the_loss_is_lower_for_the_right_answer() -> None:
    model = TextEncoder(tiny.CONFIG.text)
    said = torch.tensor([[0, 1, 2, 0, 1, 4]])
    right = torch.cat([torch.eye(n)[i] for n, i in zip(tiny.DIT.slots, said[0].tolist(), strict=True)])[None]
    assert float(loss_of(model, 9 * right, said)) < 0.2 < float(loss_of(model, -9 * right, said))
