"""Reading accuracy: an oracle is always right, a reader without output only where nothing is said."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch
from torch import Tensor

from engine.evaluation import text_accuracy as reading
from engine.evaluation.text_accuracy import CHOICES, SLOTS, figures, markdown, typed
from engine.training.text.stage import NAMES, captions


def mute(texts: list[str]) -> Tensor:
    row = torch.cat([torch.eye(n)[0] for n in SLOTS])
    return row.expand(len(texts), -1)


def test_the_labels_of_the_typed_prompts_are_valid() -> None:
    prompts = typed()
    assert len(prompts) >= 60
    assert {p.kind for p in prompts} == {"plain", "order", "typo", "extra", "change", "strange", "empty"}
    assert len({p.text for p in prompts}) == len(prompts)
    for prompt in prompts:
        for name, values in prompt.said.items():
            assert set(values) <= set(CHOICES[name]), prompt.text
    assert typed()[0].said == dict.fromkeys(NAMES, ("",))


def test_the_second_set_has_other_prompts() -> None:
    first, second = (typed(path) for path in reading.TYPED_SETS.values())
    assert len(second) == 40
    assert not {p.text.lower() for p in first} & {p.text.lower() for p in second}
    assert all(set(values) <= set(CHOICES[n]) for p in second for n, values in p.said.items())


def test_a_misspelt_key_in_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "typed.toml").write_text('[[prompts]]\nkind = "plain"\ntext = "night"\ntme = "night"\n')
    with pytest.raises(ValueError, match="tme"):
        typed(tmp_path / "typed.toml")


def test_a_reader_without_output_is_right_where_nothing_is_said() -> None:
    table = figures(mute, 60)
    assert list(table) == [name for name, _ in reading.SETS] + list(reading.TYPED_SETS)
    truth = captions(Random("5/reserved words"), 60, held_out="words")[1]
    for i, name in enumerate(NAMES):
        assert table["reserved words"][name].value == pytest.approx(float((truth[:, i] == 0).float().mean()))
    assert table["reserved words"]["all six"].value == 0
    row = table["typed prompts"]["place"]
    assert row.n == len(typed())
    assert 0 <= row.low < row.value < row.high <= 1
    assert markdown(table).count("\n") == 1 + len(table)


def test_an_oracle_is_always_right() -> None:
    truth: dict[str, list[int]] = {}
    for name, held_out in reading.SETS:
        texts, said = captions(Random(f"5/{name}"), 40, held_out=held_out)
        truth.update(zip(texts, said.tolist(), strict=True))
    for prompt in (p for path in reading.TYPED_SETS.values() for p in typed(path)):
        truth[prompt.text] = [CHOICES[n].index(prompt.said[n][0]) for n in NAMES]

    def oracle(texts: list[str]) -> Tensor:
        rows = [torch.cat([torch.eye(n)[i] for n, i in zip(SLOTS, truth[t], strict=True)]) for t in texts]
        return torch.stack(rows)

    assert all(e.value == 1 for row in figures(oracle, 40).values() for e in row.values())


def test_typos_are_corrected_before_reading() -> None:
    received: list[str] = []

    def read(texts: list[str]) -> Tensor:
        received.extend(texts)
        return mute(texts)

    assert reading.mended(read, {"taiga"})(["medow in the taiga", ""]).shape == (2, sum(SLOTS))
    assert received == ["meadow in the taiga", ""]
