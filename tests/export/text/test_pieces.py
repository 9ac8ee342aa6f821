"""The compressed word table: shared pieces, and layers in 8 bits."""

from __future__ import annotations

import torch

from engine.model.text.encoder import TextConfig
from engine.model.text.minilm import MiniLM, MiniLMConfig
from engine.model.text.word_table import Words
from export.text.minilm import small
from export.text.pieces import allocate, cut

CONFIG = TextConfig(
    vocabulary=600,
    embedding=12,
    groups=4,
    minilm=MiniLMConfig(length=8, dim=12, heads=2, layers=1, hidden=16),
)


def test_rows_that_share_pieces_are_kept_as_they_are() -> None:
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(20, 12, generator=generator)[torch.randint(20, (600,), generator=generator)]
    words = loaded(table)
    torch.testing.assert_close(words.rows(torch.arange(600)[None])[0], table, atol=0.02, rtol=0)


def test_other_rows_are_near_and_the_same_each_time() -> None:
    table = torch.randn(600, 12, generator=torch.Generator().manual_seed(2))
    found = loaded(table).rows(torch.arange(600)[None])[0]
    assert float((found - table).square().mean()) < 0.1 * float(table.square().mean())
    assert all(torch.equal(v, cut(table, 4)[k]) for k, v in cut(table, 4).items())


def test_layers_in_eight_bits_answer_nearly_alike() -> None:
    torch.manual_seed(3)
    minilm = MiniLM(CONFIG.minilm).eval()
    words = loaded(torch.randn(600, 12), minilm)
    x, mask = torch.randn(2, 8, 12), torch.ones(2, 8)
    with torch.no_grad():
        torch.testing.assert_close(words.minilm(x, mask), minilm(x, mask), atol=0.05, rtol=0)


def test_every_column_has_a_group_and_every_group_a_column() -> None:
    for variance in (torch.ones(12), 2.0 ** -torch.arange(12.0), torch.cat([torch.ones(3), torch.zeros(9)])):
        for groups in (1, 4, 12):
            group = allocate(variance, groups)
            assert group.diff().min() >= 0
            assert group.unique().tolist() == list(range(groups))


def loaded(table: torch.Tensor, minilm: MiniLM | None = None) -> Words:
    words = Words(CONFIG)
    words.load({**cut(table, CONFIG.groups), **small((minilm or words.minilm).state_dict())})
    return words
