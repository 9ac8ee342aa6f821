"""Roles on a device with buffers at fixed addresses, which CUDA graphs and TensorRT need.

A `RoleGraph` is one role at one batch size. Inputs that are already in its buffers are not copied. State
(ψ, the decoder's) alternates between two buffers: what one call writes, the next reads in place, so a
session's state never moves. If the device allows it, the call is recorded once and replayed as one CUDA
graph, one per role, batch size and buffer. On a CPU the same code runs without recording.

numpy, sessions and files are unknown here. Legend: B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from engine.errors import BackendError
from engine.model.signature import Role

Tensors = Mapping[str, Tensor]
Body = Callable[[Tensors, Tensors], None]  # reads inputs, writes outputs, all at their addresses
STATE = {"psi_next": "psi", "state_next": "state"}  # output → the input that it becomes
DTYPES = {"float32": torch.float32, "int64": torch.int64, "uint8": torch.uint8}
WARM_UP = 3  # calls before recording: libraries choose their kernels in the first


@dataclass
class RecordedCall:
    """One recorded call: fixed buffers, and the graph if there is one."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    graph: torch.cuda.CUDAGraph | None = None


@dataclass
class RoleGraph:
    """One role at one batch size. A call returns its own buffers; they stay valid until the call after the
    next."""

    role: Role
    batch: int
    body: Body
    device: torch.device
    record: bool = True
    pool: Any = None  # memory that recorded calls share: they run one after another and keep nothing in it
    turns: list[RecordedCall] = field(default_factory=list)
    copies: int = 0  # number of inputs that had to be copied

    def __post_init__(self) -> None:
        pairs = [(o.name, STATE[o.name]) for o in self.role.outputs if o.name in STATE]
        inputs = {t.name: self._empty(t.shape, t.dtype) for t in self.role.inputs}
        outputs = {t.name: self._empty(t.shape, t.dtype) for t in self.role.outputs}
        self.turns.append(RecordedCall(inputs, outputs))
        if pairs and all(i in inputs for _, i in pairs):
            # the second turn reads what the first wrote and writes where the first read
            back = RecordedCall(dict(inputs), dict(outputs))
            for o, i in pairs:
                back.inputs[i], back.outputs[o] = outputs[o], inputs[i]
            self.turns.append(back)

    def _empty(self, shape: tuple[int, ...], dtype: str) -> Tensor:
        return torch.zeros((self.batch, *shape), dtype=DTYPES[dtype], device=self.device)

    def __call__(self, given: Tensors) -> dict[str, Tensor]:
        """Inputs (B, …) → outputs (B, …), in buffers that later calls reuse.

        Raises BackendError for a shape that differs from the contract."""
        turn = self._turn(given)
        for name, place in turn.inputs.items():
            value = given[name]
            if value.shape != place.shape:
                raise BackendError(
                    f"{name} is {tuple(value.shape)}, should be {tuple(place.shape)}", field=name
                )
            if value.data_ptr() != place.data_ptr():
                place.copy_(value, non_blocking=True)
                self.copies += 1
        if turn.graph is None and self.record and self.device.type == "cuda":
            with torch.cuda.device(self.device):  # it may be the second one
                self._record(turn)
        if turn.graph is not None:
            turn.graph.replay()
        else:
            self.body(turn.inputs, turn.outputs)
        return dict(turn.outputs)

    def _turn(self, given: Tensors) -> RecordedCall:
        """The variant whose state is already in place; else the first."""
        for turn in self.turns[1:]:
            if all(
                given[i].data_ptr() == turn.inputs[i].data_ptr()
                for o, i in STATE.items()
                if o in turn.outputs
            ):
                return turn
        return self.turns[0]

    def _record(self, turn: RecordedCall) -> None:
        """Run it a few times on a side stream, then record one run. State inputs stay unchanged, since no
        variant writes where it reads."""
        side = torch.cuda.Stream(self.device)
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self.body(turn.inputs, turn.outputs)
        torch.cuda.current_stream(self.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=side):
            self.body(turn.inputs, turn.outputs)
        turn.graph = graph
