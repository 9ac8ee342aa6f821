"""A full-size folder's model in PyTorch, and the backends to compare with it: its graphs in ONNX Runtime, its
engines, PyTorch on a device.

Roles without a graph, and stand-ins for missing companions (export.framepack.standins), are the same in all
backends. So a folder of `--layers`, which holds only a transformer, can be verified too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch
from torch import nn

from engine.backends.artifact import Artifact
from engine.backends.base import Arrays, Backend, Noise, Sampler
from engine.backends.framepack import fits, load_dit
from engine.backends.gpu.cuda import DeviceBackend, module_bodies
from engine.backends.gpu.driver import cuda_device
from engine.backends.gpu.graphs import Body
from engine.backends.pytorch import Tokenize, TorchBackend
from engine.errors import ModelFilesError
from engine.model.config import BAD_CONFIG, ModelConfig, build
from engine.model.framepack.roles import Companions, Serve, roles_of
from engine.model.precision import dtype
from engine.model.signature import signature
from export.framepack.companions import lacking, parts
from export.framepack.companions import precision as companion_precision
from export.framepack.standins import stand_ins
from export.gates import ROUNDED


def is_full(artifact: Artifact) -> bool:
    return "preset" in artifact.config


def pytorch(artifact: Artifact, precision: str) -> TorchBackend:
    """PyTorch with the transformer in `precision`, and the companions in fp16 unless that is fp32. Raises
    ModelFilesError."""
    device = device_here()
    try:
        config = build(ModelConfig, artifact.config["dit"])
        serve = build(Serve, artifact.config["serve"], "serve")
    except BAD_CONFIG as e:
        raise ModelFilesError(
            f"{artifact.path}: its manifest does not describe a full-size model ({e}); export it again",
            field="config",
        ) from e
    companions = companions_of(artifact, config, serve, device, dtype(companion_precision(precision)))
    dit = load_dit(artifact.path, config, device, dtype(precision)).requires_grad_(False)
    modules = roles_of(artifact.spec, dit, companions)
    text: Any = companions.text
    tokenize: Tokenize = text.tokenize
    return TorchBackend(
        f"pytorch {precision}", artifact.spec, modules, tokenize, device, artifact.fingerprint
    )


def companions_of(
    artifact: Artifact, config: ModelConfig, serve: Serve, device: torch.device, kind: torch.dtype
) -> Companions:
    if lacking(artifact.path, serve):
        made = stand_ins(artifact.spec, config)
        for part in (made.text, made.image):
            assert isinstance(part, nn.Module)
            part.to(device)
        return made
    from engine.companions.load import load_companions

    found: Companions = load_companions(
        artifact.path, decoder=serve.decoder, segment=config.segment, device=device, dtype=torch.float16
    )
    fits(config, found)
    for p in parts(found).parameters():  # like the graphs' weights, which are rounded to fp16
        p.data = p.data.to(kind)
    return found


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
                f"{artifact.path} has no fp32 graphs, which ONNX Runtime needs on a CPU; "
                "`psistream export onnx --precision fp32` makes them",
                field="graphs",
            )

    def run(self, role: str, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        session = self.sessions.get(role)
        if session is None:
            return self.rest.run(role, inputs)
        names = [o.name for o in session.get_outputs()]
        given = {i.name: np.ascontiguousarray(inputs[i.name]) for i in session.get_inputs()}
        return dict(zip(names, session.run(names, given), strict=True))

    def sampler(self, steps: int, noise: Noise) -> Sampler:
        return self.rest.sampler(steps, noise)

    def close(self) -> None:
        self.sessions = {}


def candidate(name: str, artifact: Artifact) -> Backend:
    """A backend to compare. Raises Unavailable without a device, ModelFilesError if the folder has no graphs
    or engines for it."""
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


def precisions(artifact: Artifact, precision: str) -> dict[str, str]:
    """Role → the precision that it computes in when `precision` is compared."""
    # These graphs contain no part of the transformer.
    own = dict.fromkeys(("encode_text", "decode"), companion_precision(precision))
    if precision == "fp32":
        own["encode_image"] = ROUNDED
    return {role: own.get(role, precision) for role in signature(artifact.spec)}


def device_here() -> torch.device:
    """The device of the PyTorch reference. Disables TF32, so that fp32 is exact."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda")
