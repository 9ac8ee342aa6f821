"""Which of Helios' weights may be stored in fp8: the linears of attention and feed-forward, but not those of
the first and last three blocks.

The public recipe for Helios-Base keeps the same blocks (ModelOpt, SGLang PR 23223), and with them the
embeddings, the conditions and the last layer. ψ's memory path stays too: its errors would recur.
"""

from __future__ import annotations

import re

KEPT = 3  # blocks at either end
LINEAR = re.compile(r"(?:^|\.)blocks\.(\d+)\.(?:attn1|attn2|ffn)\.")


def chosen(name: str, layers: int) -> bool:
    """Whether the parameter `name` of a network of that many blocks may be quantised. Biases stay."""
    found = LINEAR.search(name)
    if found is None or not name.endswith(".weight") or ".norm" in name:
        return False
    return KEPT <= int(found[1]) < layers - KEPT
