"""A full-size folder's graphs in ONNX Runtime, its engines, or PyTorch on a device, to compare with PyTorch.

Roles without a graph are the reference's own. Families differ in how they make that
(export.framepack.reference, export.helios.reference).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch

from engine.backends.artifact import Artifact
from engine.backends.base import Arrays, Backend, Noise, Sampler
from engine.backends.gpu.cuda import DeviceBackend, module_bodies
from engine.backends.gpu.driver import cuda_device
from engine.backends.gpu.graphs import Body
from engine.backends.pytorch import TorchBackend
from engine.errors import ModelFilesError
from engine.model.graphs import graph_of


class GraphBackend:
    """The folder's fp32 graphs in ONNX Runtime; `rest` runs the roles without a graph."""

    def __init__(self, artifact: Artifact, rest: TorchBackend) -> None:
        self.name, self.spec, self.rest, self.tokenize = "onnxruntime", artifact.spec, rest, rest.tokenize
        self.fingerprint = artifact.fingerprint
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.sessions: dict[str, ort.InferenceSession] = {}
        for graph in artifact.graphs:
            if graph.precision == "fp32":
                file = artifact.file(graph.file)
                try:
                    made = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
                except Exception as e:  # the library's own exception types have no public base
                    raise ModelFilesError(f"{file} cannot be loaded: {e}", field=file.name) from e
                self.sessions[graph.role] = made
        if not self.sessions:
            raise ModelFilesError(
                f"{artifact.path} has no fp32 graphs, which are what runs on a CPU; "
                "`psistream export onnx --precision fp32` makes them",
                field="graphs",
            )

    def run(self, role: str, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        session = self.sessions.get(graph_of(role))
        if session is None:
            return self.rest.run(role, inputs)
        names = [o.name for o in session.get_outputs()]
        given = {i.name: np.ascontiguousarray(inputs[i.name]) for i in session.get_inputs()}
        return dict(zip(names, session.run(names, given), strict=True))

    def sampler(self, steps: int, noise: Noise) -> Sampler:
        return self.rest.sampler(steps, noise)

    def close(self) -> None:
        self.sessions = {}


def candidate(name: str, artifact: Artifact, pytorch: Callable[[Artifact, str], TorchBackend]) -> Backend:
    """A backend to compare; `pytorch` makes the reference in a precision. Raises Unavailable without a
    device, ModelFilesError if the folder has nothing for it."""
    if name == "onnxruntime":
        return GraphBackend(artifact, pytorch(artifact, "fp32"))
    here = cuda_device()
    base = pytorch(artifact, "bf16")
    bodies: dict[str, Body] = dict(module_bodies(base.spec, base.modules, compiled=name == "cuda"))
    if name == "tensorrt":
        from engine.backends.gpu.tensorrt import deserialized, fitting

        api, chosen = fitting(artifact, here.target)
        name = api.name
        bodies.update(deserialized(api, artifact, chosen, base.device))
    return DeviceBackend(
        name, base.spec, bodies, base.tokenize, base.device, fingerprint=artifact.fingerprint
    )


def device_here() -> torch.device:
    """The device of the PyTorch reference: fp32 without TF32 on either device."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda")
