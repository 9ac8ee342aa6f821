"""ψ along a batch of chains, with gradients, as a session keeps it.

ψ starts from the prompt and the anchor. It is updated with the segments before the chain, then with each
segment of the chain. A new prompt gets a ψ₀ of its own, which is updated with the kept memories again
(recondition). In a scene from nothing the first latent becomes the anchor. Objectives are unknown here.

Legend: B chains, W latent frames of a segment, M memory tokens, D width, N sum of classes of a prompt.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.model import flow
from engine.model.conditions import Conditions
from engine.model.wander.transformer import WanderDiT
from engine.training.data.chains import Chains

KEPT = 8  # outputs of memorize that a session keeps for recondition

Remembered = tuple[Tensor, Tensor]  # m (B, M, D), and the rows that have it (B, 1, 1)


class RunningMemory:
    """Gradients pass through the latest `bptt` updates, but not through any before `detach`."""

    def __init__(self, model: WanderDiT, chains: Chains, bptt: int) -> None:
        self.model, self.prompt = model, chains.prompts[:, 0]
        self.anchor, self.context = chains.anchor, chains.number > 0
        count = chains.past.shape[1]
        frozen = max(0, count - bptt)
        with torch.no_grad():
            far = self._memorize(chains, 0, frozen)
            psi = self._squeezed(self._start(self.prompt), far)
        near = self._memorize(chains, frozen, count)
        self.psi = self._squeezed(psi if frozen else self._start(self.prompt), near)
        self.kept = (far + near)[-KEPT:]

    def conditions(
        self, prompt: Tensor, *, history: Tensor, sigma: Tensor, actions: Tensor, index: Tensor
    ) -> Conditions:
        """What the model is given for the next segment under this prompt (B, N), except for hints. The other
        arguments are those of `Conditions`."""
        if not torch.equal(prompt, self.prompt):
            new = (prompt != self.prompt).any(-1)[:, None, None]
            self.psi = torch.where(new, self._squeezed(self._start(prompt), self.kept), self.psi)
            self.prompt = prompt
        text, pooled = self.model.text_slots(prompt)
        on = self.context.float()
        return Conditions(
            psi=self.psi,
            text=text,
            pooled=pooled,
            image=self.model.image_tokens(self.anchor, on),
            history=history,
            anchor=self.anchor * flow.wide(on, self.anchor),
            context=on,
            sigma=sigma,
            index=index,
            actions=actions,
        )

    def update(self, segment: Tensor) -> None:
        """ψ ← Squeeze(ψ, Memorize(segment)) (Eq. 2). segment (B, W, C, h, w)."""
        if not bool(self.context.all()):
            there = self.context
            self.anchor = torch.where(flow.wide(there, segment), self.anchor, segment[:, :1])
            self.context = torch.ones_like(there)
            self.psi = torch.where(there[:, None, None], self.psi, self._start(self.prompt))
        m = self.model.memorize(segment)
        self.psi = self.model.squeeze(self.psi, m)
        self.kept = [*self.kept, (m, torch.ones_like(m[:, :1, :1], dtype=torch.bool))][-KEPT:]

    def detach(self) -> None:
        """Cut the gradients. Everything kept so far becomes a constant."""
        self.psi = self.psi.detach()
        self.kept = [(m.detach(), has) for m, has in self.kept]

    def _start(self, prompt: Tensor) -> Tensor:
        """ψ₀ of these prompts and anchors."""
        text, _ = self.model.text_slots(prompt)
        return self.model.initial_memory(text, self.model.image_tokens(self.anchor, self.context.float()))

    def _memorize(self, chains: Chains, first: int, last: int) -> list[Remembered]:
        """Memorize outputs of the segments before the chain, all in one batch."""
        past = chains.past[:, first:last]
        if not past.shape[1]:
            return []
        m = self.model.memorize(past.flatten(0, 1)).unflatten(0, past.shape[:2])
        return [(m[:, i], chains.has_past[:, first + i, None, None]) for i in range(past.shape[1])]

    def _squeezed(self, psi: Tensor, memories: list[Remembered]) -> Tensor:
        for m, has in memories:
            psi = torch.where(has, self.model.squeeze(psi, m), psi)
        return psi
