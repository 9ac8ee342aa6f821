"""Networks with random weights, created on the device: speed depends on sizes, not on values."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from benchmarks.engine.step import times_taken_ms
from benchmarks.report import percentile

M = TypeVar("M", bound=nn.Module)


class TorchDevice(NamedTuple):
    device: torch.device
    dtype: torch.dtype  # of large networks' weights there

    @property
    def name(self) -> str:
        return torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"

    def median_ms(self, call: Callable[[], object], n: int) -> float:
        """Milliseconds of a call until the device has finished it, after one warm-up call."""

        def whole() -> None:
            call()
            if self.device.type == "cuda":
                torch.cuda.synchronize()

        return percentile(times_taken_ms(n, whole), 0.5)

    def matmul_tflops(self, side: int, n: int) -> float:
        """The device's speed at products of square matrices, which no network on it can exceed."""
        a, b = (torch.randn(side, side, device=self.device, dtype=self.dtype) for _ in range(2))
        return 2 * side**3 / self.median_ms(partial(torch.matmul, a, b), n) / 1e9


def here() -> TorchDevice:
    if torch.cuda.is_available():
        return TorchDevice(torch.device("cuda"), torch.bfloat16)
    return TorchDevice(torch.device("cpu"), torch.float32)


def random_module(build: Callable[[], M], on: TorchDevice, kind: Callable[[str], torch.dtype]) -> M:
    """A module created tensor by tensor on the device, without a second or fp32 copy. `kind` returns each
    parameter's type by its name; buffers are random too, in fp32."""
    with unset_fake_temporarily(), torch.device("meta"):
        module = build().eval().requires_grad_(False)
    for name, p in list(module.named_parameters()):
        made = torch.randn(p.shape, device=on.device, dtype=kind(name)) / max(1, p[0].numel()) ** 0.5
        _put(module, name, nn.Parameter(made, requires_grad=False))
    for name, buffer in list(module.named_buffers()):
        _put(module, name, torch.randn(buffer.shape, device=on.device))
    return module


def _put(module: nn.Module, name: str, tensor: Tensor) -> None:
    place, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(place), leaf, tensor)
