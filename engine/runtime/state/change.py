"""What controls change in a state at a segment boundary: the text, at once or gradually, or the scene.

Plain data. Several changes add up to one. Backends, clients and time are unknown here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from engine.types import ByteArray, Prompts, Weighted


@dataclass(frozen=True)
class NewScene:
    """A scene to start: from a picture (3, H, W), from the current anchor, or from text alone."""

    seed: int
    number: int  # scenes cut since the seed was set
    image: ByteArray | None = None
    keep_anchor: bool = False


@dataclass(frozen=True)
class Change:
    """`prompts` None: the text stays. Without a new scene the change of text takes `over` segments."""

    prompts: Prompts | None = None
    over: int = 1
    scene: NewScene | None = None

    def then(self, later: Change) -> Change:
        """This change and then `later`, with no segment between them."""
        scene = later.scene or self.scene
        if later.scene and later.scene.keep_anchor and self.scene:
            scene = replace(later.scene, image=self.scene.image, keep_anchor=self.scene.keep_anchor)
        text = self if later.prompts is None else later
        return Change(text.prompts, text.over, scene)


def total(changes: Iterable[Change | None]) -> Change | None:
    """The sum of changes in order; None: nothing changes."""
    sum_: Change | None = None
    for change in changes:
        sum_ = change if sum_ is None else sum_.then(change) if change is not None else sum_
    return sum_


def as_prompts(text: str | Prompts) -> Prompts:
    return (Weighted(text),) if isinstance(text, str) else text


def described(prompts: Prompts) -> str:
    """Prompts as one line for people."""
    if len(prompts) == 1:
        return prompts[0].text
    whole = sum(prompt.weight for prompt in prompts)
    return " + ".join(f"{prompt.weight / whole:.0%} {prompt.text}" for prompt in prompts)
