"""What a model makes of a prompt's text before its blocks: computed once per text, not once per call.

For models with a role `project_text`. The text of a state is replaced and never written to, so an array's
identity stands for its content: states that share a text share its projection. What no state holds any more
is forgotten; a snapshot does not contain it. For one thread at a time.

Legend: N text tokens, E their width, D width of the model.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

import numpy as np

from engine.backends.base import Backend
from engine.model.signature import signature
from engine.types import FloatArray

ROLE = "project_text"
MOST = 32  # texts; Helios' projection of one has 10.5 MB


class Projections:
    """`needed` is False for models that project the text in every call; they make no projection here."""

    def __init__(self, backend: Backend, most: int = MOST) -> None:
        self.needed = ROLE in signature(backend.spec)
        self._backend, self._most = backend, most
        self._known: OrderedDict[int, tuple[weakref.ref[FloatArray], FloatArray]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def make(self, texts: Sequence[FloatArray]) -> None:
        """Projects the texts (N, E) that are new, in one call. Raises BackendError."""
        new = {id(text): text for text in texts if self.needed and not self._has(text)}
        if not new:
            return
        made = self._backend.run(ROLE, {"text": np.stack(list(new.values()))})["projected"]
        for key, (text, projected) in zip(new, zip(new.values(), made, strict=True), strict=True):
            self._known[key] = weakref.ref(text, partial(self._forget, key)), projected
        while len(self._known) > self._most:
            self._known.popitem(last=False)

    def of(self, text: FloatArray) -> FloatArray:
        """(N, E) → (N, D), from what is known where that is possible. Raises BackendError."""
        if not self._has(text):
            self.make([text])
        self._known.move_to_end(id(text))
        return self._known[id(text)][1]

    def _forget(self, key: int, _: object) -> None:
        self._known.pop(key, None)

    def _has(self, text: FloatArray) -> bool:
        found = self._known.get(id(text))
        return found is not None and found[0]() is text
