"""The text encoder: padding never changes the answer, order and chatter may, answers are probabilities."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.errors import ModelFilesError
from engine.model.text.encoder import TextEncoder
from engine.model.text.word_table import Words
from engine.model.wander.world_model import EncodeText
from tests.rigs.engine import tiny

T = tiny.CONFIG.text


@pytest.fixture(scope="module")
def encode() -> EncodeText:
    return EncodeText(tiny.world_model())


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


@torch.no_grad()
def test_a_new_encoder_takes_everything_for_unsaid_and_a_vote_changes_one_attribute() -> None:
    encoder = TextEncoder(T)
    mask = torch.ones(1, 4)
    parts = encoder(torch.randn(1, 4, T.embedding), mask).split(list(T.slots), -1)
    assert all(int(p.argmax()) == 0 for p in parts)
    encoder.vote.bias[2] = 5.0  # the first class of the second attribute: two of the first come before
    voted = encoder(torch.randn(1, 4, T.embedding), mask).split(list(T.slots), -1)
    assert int(voted[1].argmax()) == 1
    assert all(torch.equal(a, b) for i, (a, b) in enumerate(zip(parts, voted, strict=True)) if i != 1)


def test_a_file_of_words_that_lacks_something_is_refused() -> None:
    whole = tiny.words()
    for lost in ("codes", "pieces", "minilm.encoder.layer.1.output.dense.weight"):
        with pytest.raises(ModelFilesError, match=r"export\.text\.minilm"):
            Words(T).load({k: v for k, v in whole.items() if k != lost})
    with pytest.raises(ModelFilesError, match="16 × 4"):
        Words(T).load({**whole, "codes": whole["codes"][:9]})


def test_what_was_made_here_and_what_was_not_are_kept_apart() -> None:
    model = tiny.world_model()
    assert not any(name.startswith("words.") for name in model.trained())
    assert {*model.trained(), *(f"words.{k}" for k in model.words.state_dict())} == set(model.state_dict())
    other = tiny.world_model(seed=1)
    other.load_trained(model.trained())
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in other.state_dict().items())
