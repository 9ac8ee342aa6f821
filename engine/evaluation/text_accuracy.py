"""Accuracy of reading prompts: captions in trained and reserved words and layouts, and prompts as people type
them.

`python -m engine.evaluation.text_accuracy [--model DIR | --run DIR] [--n 1000] [--mend]` prints a table, and
JSON on the last line.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Callable, Container
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from engine.backends.artifact import BUILT_IN, EMBEDDINGS, TOKENIZER, open_artifact
from engine.backends.pytorch import load_model
from engine.backends.tokenizer import PromptTokenizer
from engine.evaluation.statistics import Estimate, share
from engine.model.config import build
from engine.model.text.encoder import TextConfig, TextEncoder
from engine.model.text.word_table import Words
from engine.training.text.stage import NAMES, captions, tokens
from engine.world.attributes import ACTIONS, FIELDS, VALUES
from engine.world.words.captions import HeldOut
from engine.world.words.spelling import mend

TYPED: Final = Path(__file__).parent / "typed.toml"
TYPED_SETS: Final = {"typed prompts": TYPED, "typed prompts, second set": TYPED.parent / "typed2.toml"}
CHOICES: Final = {**{f: ("", *VALUES[f]) for f in FIELDS}, "motion": ("", *ACTIONS)}
SLOTS: Final = [len(CHOICES[name]) for name in NAMES]
SETS: Final[tuple[tuple[str, HeldOut], ...]] = (
    ("training grammar", False),
    ("reserved words", "words"),
    ("reserved layouts", "layouts"),
    ("both reserved", "both"),
)
Read = Callable[[list[str]], Tensor]
"""Texts → probabilities or logits of all attributes' classes, (B, K)."""


class Typed(NamedTuple):
    """A prompt that somebody might type, and the accepted readings of each attribute."""

    text: str
    kind: str
    said: dict[str, tuple[str, ...]]


def typed(path: Path = TYPED) -> list[Typed]:
    """Raises ValueError for an unknown key."""

    def alternatives(value: str | list[str]) -> tuple[str, ...]:
        return (value,) if isinstance(value, str) else tuple(value)

    found = []
    for p in tomllib.loads(path.read_text(encoding="utf-8"))["prompts"]:
        if strange := set(p) - {"text", "kind", *NAMES}:
            raise ValueError(f"{path}: {p['text']!r} has {sorted(strange)}")
        found.append(Typed(p["text"], p["kind"], {name: alternatives(p.get(name, "")) for name in NAMES}))
    return found


def answers(read: Read, texts: list[str], batch: int = 64) -> list[dict[str, str]]:
    """What is read from each text: a value per attribute, or "" for unsaid."""
    out = []
    for start in range(0, len(texts), batch):
        best = [p.argmax(-1).tolist() for p in read(texts[start : start + batch]).split(SLOTS, -1)]
        out += [
            {n: CHOICES[n][i] for n, i in zip(NAMES, row, strict=True)} for row in zip(*best, strict=True)
        ]
    return out


def figures(read: Read, n: int = 1000, *, seed: int = 5) -> dict[str, dict[str, Estimate]]:
    """Set → attribute → share of prompts in which the attribute, or its absence, is read correctly, with
    Wilson's interval."""
    table = {}
    for name, held_out in SETS:
        texts, truth = captions(Random(f"{seed}/{name}"), n, held_out=held_out)
        want: list[dict[str, tuple[str, ...]]] = [
            {a: (CHOICES[a][i],) for a, i in zip(NAMES, row, strict=True)} for row in truth.tolist()
        ]
        table[name] = _shares(answers(read, texts), want)
    for name, path in TYPED_SETS.items():
        prompts = typed(path)
        table[name] = _shares(answers(read, [p.text for p in prompts]), [p.said for p in prompts])
    return table


def _shares(found: list[dict[str, str]], want: list[dict[str, tuple[str, ...]]]) -> dict[str, Estimate]:
    shares = {}
    for name in (*NAMES, "all six"):
        names = NAMES if name == "all six" else (name,)
        right = [float(all(f[a] in w[a] for a in names)) for f, w in zip(found, want, strict=True)]
        estimate = share(right)
        assert estimate is not None
        shares[name] = estimate
    return shares


def reader(words: Words, encoder: TextEncoder, tokenizer: PromptTokenizer) -> Read:
    """The reader that these parts make up."""

    @torch.inference_mode()
    def read(texts: list[str]) -> Tensor:
        return encoder.probabilities(encoder(*words(*tokens(tokenizer, texts, whole=True))))

    return read


def mended(read: Read, known: Container[str]) -> Read:
    """The reader after correcting typos; `known` are words that are not typos."""
    return lambda texts: read([mend(text, known) for text in texts])


def of_model(folder: Path | None) -> Read:
    """The reader of an exported model. Raises ModelFilesError."""
    artifact = open_artifact(folder)
    model = load_model(artifact)
    return reader(
        model.words, model.text, PromptTokenizer(artifact.file(TOKENIZER), artifact.spec.text_length)
    )


def of_run(run: Path, folder: Path = BUILT_IN) -> Read:
    """The reader of a run: its `text.final.pt`, in fp16 as it will be stored, with the word table of
    `folder`."""
    data = torch.load(run / "text.final.pt", weights_only=True)
    config = build(TextConfig, data["config"])
    encoder, words = TextEncoder(config).eval(), Words(config)
    encoder.load_state_dict({k: v.half().float() for k, v in data["state"].items()})
    words.load(load_file(folder / EMBEDDINGS))
    return reader(words, encoder, PromptTokenizer(folder / TOKENIZER, config.length))


def markdown(table: dict[str, dict[str, Estimate]]) -> str:
    head = [*NAMES, "all six"]
    lines = [f"| share read right | n | {' | '.join(head)} |", f"|---|---|{'---|' * len(head)}"]
    for name, row in table.items():
        cells = " | ".join(f"{e.value:.3f} ({e.low:.3f}–{e.high:.3f})" for e in (row[h] for h in head))
        lines.append(f"| {name} | {row['all six'].n} | {cells} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(
        prog="python -m engine.evaluation.text_accuracy", description=__doc__.split("\n")[0]
    )
    p.add_argument("--model", type=Path, help="an exported folder (default: the built-in one)")
    p.add_argument("--run", type=Path, help="a run folder with text.final.pt instead")
    p.add_argument(
        "--words", type=Path, default=BUILT_IN, help="folder of MiniLM and its tokenizer, for --run"
    )
    p.add_argument("--n", type=int, default=1000, help="captions per set (default: %(default)s)")
    p.add_argument("--mend", action="store_true", help="correct typos first")
    p.add_argument("--faults", action="store_true", help="list the typed prompts that are read wrong")
    args = p.parse_args(argv)
    read = of_run(args.run, args.words) if args.run else of_model(args.model)
    if args.mend:
        folder = args.words if args.run else open_artifact(args.model).path
        read = mended(read, json.loads((folder / TOKENIZER).read_text())["model"]["vocab"])
    if args.faults:
        prompts = [p for path in TYPED_SETS.values() for p in typed(path)]
        for prompt, found in zip(prompts, answers(read, [p.text for p in prompts]), strict=True):
            wrong = {n: found[n] or "unsaid" for n in NAMES if found[n] not in prompt.said[n]}
            if wrong:
                print(f"{prompt.kind}: {prompt.text!r}: {wrong}")
    table = figures(read, args.n)
    print(markdown(table))
    print(json.dumps({name: {a: e._asdict() for a, e in row.items()} for name, row in table.items()}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
