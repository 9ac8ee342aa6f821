"""How well a run uses its device: the operation rate of updates compared with that of a large matrix product.

Only matrix products and attention are counted. Norms, activations and copies take the rest of the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Flops(TorchDispatchMode):
    """While entered, counts floating-point operations of matrix products and attention, with backward
    passes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if count := flop_registry.get(func._overloadpacket):
            self.total += count(*args, **kwargs, out_val=out)
        return out


def matmul_ceiling(device: torch.device, *, seconds: float = 0.5) -> float:
    """Operations per second of a large matrix product, in the precision of training. It is the best of
    several tries, since other programs use the machine too."""
    cuda = device.type == "cuda"
    n = 8192 if cuda else 1024
    a = torch.randn(n, n, device=device, dtype=torch.bfloat16 if cuda else torch.float32)

    def once() -> float:
        begun = time.perf_counter()
        a @ a
        if cuda:
            torch.cuda.synchronize(device)
        return time.perf_counter() - begun

    once()
    best, end = once(), time.perf_counter() + seconds
    while time.perf_counter() < end:
        best = min(best, once())
    return 2 * n**3 / best


def count(work: Callable[[], object]) -> int:
    """Number of operations of `work`. The state of torch's generators is restored afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), Flops() as flops:
        work()
    total: int = flops.total
    return total
