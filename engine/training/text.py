"""Teach the text encoder to read prompts: captions of the world in, what they say out.

Needs no pictures. Noise on the embeddings, dropped and foreign words stand in for the words of real users;
held-out synonyms and templates measure how far that carries.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from engine.backends.artifact import BUILT_IN, EMBEDDINGS, TOKENIZER
from engine.backends.tokens import PromptTokenizer
from engine.model.config import build
from engine.model.text import TextConfig, TextEncoder
from engine.training.learner import Learner, fit, save_weights
from engine.training.recipe import Stage
from engine.training.run import Run
from engine.world.attributes import ACTIONS, FIELDS, VALUES
from engine.world.captions import random_caption

NAMES = (*FIELDS, "motion")


def batch_of_captions(
    tokenizer: PromptTokenizer, rng: Random, count: int, *, held_out: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """ids (B, L), mask (B, L), what each says (B, 6): 0 unsaid, else 1 + value."""
    ids, mask, said = [], [], []
    for _ in range(count):
        attributes = {f: rng.randrange(len(VALUES[f])) for f in FIELDS}
        motion = rng.randrange(len(ACTIONS)) if rng.random() < 0.6 else None
        text, facts = random_caption(attributes, motion, rng, held_out=held_out)
        i, m = tokenizer(text)
        ids.append(torch.from_numpy(i))
        mask.append(torch.from_numpy(m))
        said.append(torch.tensor([facts[n] + 1 if n in facts else 0 for n in NAMES]))
    return torch.stack(ids), torch.stack(mask), torch.stack(said)


def roughen(ids: Tensor, mask: Tensor, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Replace a few padding places by foreign words and hide a few real ones: users don't talk in
    templates."""
    foreign = (torch.rand(ids.shape) < 0.05) & (mask == 0)
    ids = torch.where(foreign, torch.randint(1000, vocabulary, ids.shape), ids)
    return ids, torch.where(foreign, 1.0, mask)


def loss_of(model: TextEncoder, logits: Tensor, said: Tensor) -> Tensor:
    parts = logits.split(list(model.config.slots), -1)
    return torch.stack(
        [F.cross_entropy(p, said[:, i], label_smoothing=0.01) for i, p in enumerate(parts)]
    ).mean()


@torch.no_grad()
def accuracy(model: TextEncoder, embedded: Tensor, mask: Tensor, said: Tensor) -> Tensor:
    """(6,): share of captions whose attribute, or its absence, is read right."""
    parts = model(embedded, mask).split(list(model.config.slots), -1)
    return torch.stack([(p.argmax(-1) == said[:, i]).float().mean() for i, p in enumerate(parts)])


def train_text(folder: Path, stage: Stage, *, seed: int = 0) -> TextEncoder:
    """Train for the stage's budget in all (resuming), return the averaged model, also saved as
    `text.final.pt`."""
    torch.manual_seed(seed)
    config = build(TextConfig, stage.config)
    table = load_file(BUILT_IN / EMBEDDINGS)["embeddings"].float()
    tokenizer = PromptTokenizer(BUILT_IN / TOKENIZER, config.length)
    model = TextEncoder(config)
    learner = Learner(model, ema=stage.ema, betas=(0.9, 0.999), weight_decay=0.05)
    run = Run(folder, "text", 60 * stage.minutes, steps=stage.steps, lr=stage.lr, warmup=50, hold=0.3)
    if state := run.resume():
        learner.load(state)
    held_out = batch_of_captions(tokenizer, Random(77), 1024, held_out=True)
    scale = float(table.std())

    def update() -> dict[str, float]:
        captions = batch_of_captions(tokenizer, Random(f"{seed}/{run.step}"), stage.batch)
        ids, mask = roughen(*captions[:2], config.vocabulary)
        hidden = (torch.rand(mask.shape) < 0.02) & (mask.sum(1, keepdim=True) > 8)
        noise = 0.5 * scale * torch.rand(len(ids), 1, 1) * torch.randn(*ids.shape, config.embedding)
        loss = loss_of(model, model(table[ids] + noise, mask * ~hidden), captions[2])
        loss.backward()
        return {"loss": float(loss.detach())}

    def judge() -> None:
        right = accuracy(learner.mean, table[held_out[0]], held_out[1], held_out[2])
        run.log(**{f"held_out_{n}": float(a) for n, a in zip(NAMES, right, strict=True)})

    run.begin()
    fit(run, learner, update, judge=judge, judge_every=250)
    judge()
    save_weights(folder / "text.final.pt", learner.mean, config)
    return learner.mean
