"""Captions as training examples: what a caption says is what is asked of the encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch

from engine.backends.artifact import TOKENIZER
from engine.backends.tokenizer import PromptTokenizer
from engine.model.text.encoder import TextConfig, TextEncoder
from engine.model.text.word_table import Words
from engine.training.recipe import Stage
from engine.training.text import typos as rough
from engine.training.text.stage import (
    Read,
    captions,
    logits_of,
    loss_of,
    meanings_of,
    right,
    tokens,
    train_text,
)
from engine.world.attributes import ACTIONS, FIELDS, VALUES
from tests.rigs.engine import tiny


@pytest.fixture
def tokenizer(tmp_path: Path) -> PromptTokenizer:
    tiny.write_text_files(tmp_path)
    return PromptTokenizer(tmp_path / TOKENIZER, tiny.CONFIG.text.length)


def test_answers_fit_the_slots_and_unsaid_is_among_them() -> None:
    texts, said = captions(Random(1), 300, rough=True)
    sizes = [1 + len(VALUES[f]) for f in FIELDS] + [1 + len(ACTIONS)]
    assert list(TextConfig().slots) == sizes
    assert said.shape == (len(texts), len(sizes)) == (300, 6)
    assert said.amin(0).tolist() == [0] * len(sizes)
    assert said.amax(0).tolist() == [n - 1 for n in sizes]
    assert any(not row.any() for row in said)


def test_captions_come_from_the_seed_alone() -> None:
    (a, x), (b, y) = (captions(Random(2), 20, rough=True) for _ in range(2))
    assert a == b
    assert torch.equal(x, y)


def test_roughness_keeps_most_words_and_slips_by_a_letter() -> None:
    rng = Random(3)
    plain = captions(Random(4), 300)[0]
    typed = [rough.roughen(text, rng) for text in plain]
    same = [
        len(set(a.split()) & set(b.split())) / len(set(a.split())) for a, b in zip(plain, typed, strict=True)
    ]
    assert 0.8 < sum(same) / len(same) < 1
    assert sum(a == b for a, b in zip(plain, typed, strict=True)) > 60
    for word in ("night", "volcano", "fox"):
        for _ in range(50):
            slipped = rough.misspell(word, rng)
            assert abs(len(slipped) - len(word)) <= 1
            assert len(set(word) - set(slipped)) <= 1


def test_tokens_are_cut_to_the_longest(tokenizer: PromptTokenizer) -> None:
    ids, mask = tokens(tokenizer, ["a red fox", "", "night"])
    assert ids.shape == (3, 3)
    assert mask.sum(1).tolist() == [3, 0, 1]
    assert tokens(tokenizer, ["fox"], whole=True)[0].shape == (1, tiny.CONFIG.text.length)


def test_a_text_means_the_same_whatever_it_is_read_with(tokenizer: PromptTokenizer) -> None:
    words = Words(tiny.CONFIG.text)
    words.load(tiny.words())
    texts = ["a red fox walks left", "night", "", "snow robot"]
    together = meanings_of(words, tokenizer, texts)
    for text, found in zip(texts, together, strict=True):
        torch.testing.assert_close(found, meanings_of(words, tokenizer, [text])[0], atol=2e-3, rtol=0)
    assert [len(m) for m in together] == [7, 3, 2, 4]


@torch.no_grad()
@pytest.mark.parametrize("rows", [False, True])
def test_captions_side_by_side_are_read_as_they_are_one_by_one(
    tokenizer: PromptTokenizer, rows: bool
) -> None:
    config = replace(tiny.CONFIG.text, rows=rows, hidden=12)
    words, model = Words(config), TextEncoder(config)
    words.load(tiny.words())
    torch.nn.init.normal_(model.vote.weight)
    texts = ["a red fox walks left", "night", "", "snow robot"]
    read = Read(meanings_of(words, tokenizer, texts))
    together = logits_of(model, *read.pick(torch.tensor([3, 0, 2, 1, 0])))
    for i, found in zip((3, 0, 2, 1, 0), together, strict=True):
        alone = model(*words(*tokens(tokenizer, [texts[i]], whole=True)))[0]
        torch.testing.assert_close(found, alone, atol=5e-3, rtol=0)


def test_the_loss_is_lower_for_the_right_answer() -> None:
    model = TextEncoder(tiny.CONFIG.text)
    said = torch.tensor([[0, 1, 2, 0, 1, 4]])
    answer = torch.cat([torch.eye(n)[i] for n, i in zip(tiny.DIT.slots, said[0].tolist(), strict=True)])[None]
    assert float(loss_of(model, 9 * answer, said)) < 0.2 < float(loss_of(model, -9 * answer, said))
    assert bool(right(answer, said, tiny.DIT.slots).all())


def test_training_writes_what_an_export_takes(tmp_path: Path) -> None:
    tiny.write_text_files(tmp_path)
    small = {"vocabulary": 16, "embedding": 8, "groups": tiny.CONFIG.text.groups, "length": 6}
    minilm = {"length": 8, "dim": 8, "heads": 2, "layers": 2, "hidden": 16, "cls": 14, "sep": 15}
    stage = Stage(steps=3, lr=1e-2, batch=8, config={**small, "hidden": 12, "rows": True, "minilm": minilm})
    model = train_text(tmp_path, stage, words=tmp_path, pool=40)
    data = torch.load(tmp_path / "text.final.pt", weights_only=True)
    assert data["config"]["minilm"]["layers"] == 2
    assert all(torch.equal(v, data["state"][k]) for k, v in model.state_dict().items())
    again = train_text(tmp_path / "again", stage, words=tmp_path, pool=40)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())
