"""Trains the text encoder to read prompts, on captions of the world and the attributes they state.

Pictures are not needed. MiniLM is frozen and only the votes are trained. Captions look as people would type
them, and half of their names come from a dictionary. MiniLM embeds them once, before the first step. Held-out
synonyms and templates measure generalisation; engine.evaluation.text_accuracy measures more.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from engine.backends.artifact import BUILT_IN, EMBEDDINGS, TOKENIZER
from engine.backends.tokenizer import PromptTokenizer
from engine.model.blocks import MASKED
from engine.model.config import build
from engine.model.text.encoder import TextConfig, TextEncoder
from engine.model.text.word_table import Words
from engine.training.learner import Learner, fit, save_weights
from engine.training.recipe import Stage
from engine.training.run import Run
from engine.training.text.typos import nonsense, roughen
from engine.world.attributes import ACTIONS, FIELDS, VALUES
from engine.world.words.captions import HeldOut, random_caption

NAMES = (*FIELDS, "motion")
NOTHING = 0.03  # share of prompts that state no attribute
POOL = 12288  # number of captions
WIDE = 0.5  # share of names in them that come from a dictionary
WEIGHT_DECAY = 0.3
NOISE = 0.5  # largest noise on MiniLM's output, in standard deviations; one level per prompt


def captions(
    rng: Random, count: int, *, held_out: HeldOut = False, rough: bool = False, wide: float = 0.0
) -> tuple[list[str], Tensor]:
    """Captions, and the attributes that each states (B, 6): 0 unsaid, otherwise 1 + value."""
    texts, said = [], []
    for _ in range(count):
        attributes = {f: rng.randrange(len(VALUES[f])) for f in FIELDS}
        motion = rng.randrange(len(ACTIONS)) if rng.random() < 0.6 else None
        text, facts = random_caption(attributes, motion, rng, held_out=held_out, wide=wide)
        if rough and rng.random() < NOTHING:
            text, facts = nonsense(rng), {}
        texts.append(roughen(text, rng) if rough else text)
        said.append([facts[n] + 1 if n in facts else 0 for n in NAMES])
    return texts, torch.tensor(said)


def tokens(tokenizer: PromptTokenizer, texts: list[str], *, whole: bool = False) -> tuple[Tensor, Tensor]:
    """ids (B, L), mask (B, L). L is that of the longest text, or the tokenizer's whole length."""
    found = [tokenizer(text) for text in texts]
    length = tokenizer.length if whole else max(1, max(int(mask.sum()) for _, mask in found))
    ids, mask = (torch.stack([torch.from_numpy(f[i][:length]) for f in found]) for i in (0, 1))
    return ids, mask


def loss_of(model: TextEncoder, logits: Tensor, said: Tensor) -> Tensor:
    parts = logits.split(list(model.config.slots), -1)
    return torch.stack(
        [F.cross_entropy(p, said[:, i], label_smoothing=0.01) for i, p in enumerate(parts)]
    ).mean()


def right(logits: Tensor, said: Tensor, slots: tuple[int, ...]) -> Tensor:
    """(B, 6): whether each attribute, or its absence, is read correctly, from logits or probabilities."""
    parts = logits.split(list(slots), -1)
    return torch.stack([p.argmax(-1) == said[:, i] for i, p in enumerate(parts)], 1)


@torch.no_grad()
def meanings_of(words: Words, tokenizer: PromptTokenizer, texts: list[str], batch: int = 64) -> list[Tensor]:
    """MiniLM's output for each text's tokens, (L, E) fp16, in the order of the texts."""
    out: list[Tensor] = [torch.empty(0)] * len(texts)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # similar lengths need little padding
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        found, mask = words(*tokens(tokenizer, [texts[i] for i in part]))
        for i, x, n in zip(part, found.half(), mask.sum(1).int().tolist(), strict=True):
            out[i] = x[:n].clone()
    return out


class Read:
    """MiniLM's output for all captions, with the tokens in one tensor, so that no step pays for padding."""

    def __init__(self, meanings: list[Tensor]) -> None:
        self.tokens = torch.cat(meanings)
        lengths = torch.tensor([len(m) for m in meanings])
        self.ends = lengths.cumsum(0)
        self.starts = self.ends - lengths

    def __len__(self) -> int:
        return len(self.ends)

    def pick(self, which: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of captions (B,) → their tokens (N, E), and the position of each caption's tokens among
        them (B, L), which is N after its last token."""
        starts, lengths = self.starts[which], self.ends[which] - self.starts[which]
        place = torch.arange(int(lengths.max()))
        real = place < lengths[:, None]
        found = self.tokens[(starts[:, None] + place)[real]]
        where = torch.full(real.shape, len(found))
        where[real] = torch.arange(len(found))
        return found.float(), where


def logits_of(model: TextEncoder, tokens: Tensor, where: Tensor) -> Tensor:
    """The model's answer for tokens (N, E) of captions (B, L), see `Read.pick`; (B, K)."""
    votes = F.pad(model.votes(tokens), (0, 0, 0, 1), value=MASKED)
    return model.count(votes[where].logsumexp(1))


def train_text(
    folder: Path, stage: Stage, *, seed: int = 0, words: Path = BUILT_IN, pool: int = POOL
) -> TextEncoder:
    """Train up to the stage's budget, resuming if there is a checkpoint. Returns the averaged model, which is
    also saved as `text.final.pt`. `words` is the folder of MiniLM and its tokenizer, `pool` the number of
    captions."""
    torch.manual_seed(seed)
    tensors = load_file(words / EMBEDDINGS)
    config = build(TextConfig, {**stage.config, "vocabulary": len(tensors["codes"])})
    known = Words(config)
    known.load(tensors)
    tokenizer = PromptTokenizer(words / TOKENIZER, config.length)
    model = TextEncoder(config)
    texts, truth = captions(Random(f"{seed}/pool"), pool, rough=True, wide=WIDE)
    print(f"text: MiniLM reads {pool} captions", flush=True)
    read = Read(meanings_of(known, tokenizer, texts))
    some = read.tokens[:8192].float()
    model.mean.copy_(some.mean(0))
    model.std.copy_(some.std(0).clamp(min=0.05 * float(some.std())))  # some dimensions are constant
    generator = torch.Generator().manual_seed(seed)
    learner = Learner(
        model,
        ema=stage.ema,
        betas=(0.9, 0.999),
        weight_decay=WEIGHT_DECAY,
        generators={"captions": generator},
    )
    run = Run(folder, "text", 60 * stage.minutes, steps=stage.steps, lr=stage.lr, warmup=20, hold=0.3)
    if state := run.resume():
        learner.load(state)
    reserved, reserved_truth = captions(Random(77), 256, held_out=True)
    strange = Read(meanings_of(known, tokenizer, reserved))

    def update() -> dict[str, float]:
        picked = torch.randint(len(read), (stage.batch,), generator=generator)
        x, where = read.pick(picked)
        level = NOISE * torch.rand(len(picked), 1).expand(where.shape)[where < len(x)]
        x = x + level[:, None] * torch.randn(x.shape) * model.std
        loss = loss_of(model, logits_of(model, x, where), truth[picked])
        loss.backward()
        return {"loss": float(loss.detach())}

    @torch.no_grad()
    def validate() -> None:
        found = logits_of(learner.mean, *strange.pick(torch.arange(len(strange))))
        shares = right(found, reserved_truth, config.slots).float().mean(0)
        run.log(**{f"held_out_{n}": float(a) for n, a in zip(NAMES, shares, strict=True)})

    run.begin()
    fit(run, learner, update, validate=validate, validate_every=250)
    validate()
    save_weights(folder / "text.final.pt", learner.mean, config)
    return learner.mean
