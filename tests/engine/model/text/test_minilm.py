"""MiniLM is BERT as transformers has it, with matrices kept in 8 bits."""

from __future__ import annotations

import pytest
import torch

from engine.model.text.minilm import MiniLM, MiniLMConfig, eight_bits

transformers = pytest.importorskip("transformers")

CONFIG = MiniLMConfig(length=12, dim=24, heads=3, layers=3, hidden=48)


@torch.no_grad()
@pytest.mark.parametrize("layers", [1, 3])
def test_it_answers_as_transformers_does_layer_by_layer(layers: int) -> None:
    torch.manual_seed(0)
    theirs = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=50,
            hidden_size=CONFIG.dim,
            num_hidden_layers=CONFIG.layers,
            num_attention_heads=CONFIG.heads,
            intermediate_size=CONFIG.hidden,
            max_position_embeddings=20,
        ),
        add_pooling_layer=False,
    ).eval()
    ours = MiniLM(MiniLMConfig(length=12, dim=24, heads=3, layers=layers, hidden=48))
    state = theirs.state_dict()
    ours.load_state_dict({k: state[k][: len(v)] for k, v in ours.state_dict().items()})
    ids = torch.randint(50, (4, 12))
    mask = (torch.arange(12) < torch.tensor([12, 7, 2, 1])[:, None]).float()
    words = state["embeddings.word_embeddings.weight"][ids]
    expected = theirs(ids, mask, output_hidden_states=True).hidden_states[layers]
    real = mask[..., None]
    torch.testing.assert_close(ours(words, mask) * real, expected * real, atol=1e-5, rtol=1e-5)


def test_marks_stand_around_whatever_was_said() -> None:
    ids = torch.tensor([[7, 8, 9], [7, 4, 4], [4, 4, 4]])
    mask = torch.tensor([[1.0, 1, 1], [1, 0, 0], [0, 0, 0]])
    marked, longer = MiniLM(CONFIG).marked(ids, mask)
    real = [row[m > 0].tolist() for row, m in zip(marked, longer, strict=True)]
    assert real == [[101, 7, 8, 9, 102], [101, 7, 102], [101, 102]]
    assert marked.shape == longer.shape == (3, 5)


def test_eight_bits_are_within_half_a_step() -> None:
    table = torch.randn(40, 24, generator=torch.Generator().manual_seed(2))
    table[3] = 0
    small, scale = eight_bits(table)
    assert small.dtype == torch.int8
    assert scale.shape == (40, 1)
    assert bool(((small.float() * scale - table).abs() <= scale / 2 + 1e-7).all())
    assert bool((small.abs().amax(1)[torch.arange(40) != 3] == 127).all())
