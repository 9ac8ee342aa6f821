"""ONNX Runtime on the CPU: the default. Starts in a second, needs no torch.

Weights are stored as fp16 and cast once when a session is made; all arithmetic is fp32.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from engine.backends.artifact import TOKENIZER, Artifact, open_artifact
from engine.backends.base import Arrays, failure
from engine.backends.euler import Euler, euler
from engine.backends.tokenizer import PromptTokenizer
from engine.errors import ModelFilesError
from engine.model.signature import Role, signature

TYPES = {"float32": "tensor(float)", "int64": "tensor(int64)", "uint8": "tensor(uint8)"}


class OrtBackend:
    name = "onnxruntime"

    def __init__(self, artifact: Artifact, threads: int | None = None) -> None:
        self.spec, self.fingerprint = artifact.spec, artifact.fingerprint
        self.tokenize = PromptTokenizer(artifact.file(TOKENIZER), self.spec.text_length)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or os.cpu_count() or 1
        options.log_severity_level = 3
        # spinning workers would take the cores from the encoder and the viewers
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._sessions: dict[str, ort.InferenceSession] = {}
        for role, expected in signature(self.spec).items():
            file = artifact.file(artifact.graph(role).file)
            try:
                session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
            except Exception as e:  # the library's own exception types have no public base
                raise ModelFilesError(f"{file} cannot be loaded: {e}", field=file.name) from e
            _check(role, expected, session)
            self._sessions[role] = session

    def run(self, role: str, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        session = self._sessions[role]
        names = [o.name for o in session.get_outputs()]
        given = {i.name: np.ascontiguousarray(inputs[i.name]) for i in session.get_inputs()}
        try:
            return dict(zip(names, session.run(names, given), strict=True))
        except Exception as e:  # as above
            raise failure(role, e) from e

    def sampler(self, steps: int) -> Euler:
        return euler(self.spec, steps)

    def close(self) -> None:
        self._sessions = {}


def _check(role: str, expected: Role, session: ort.InferenceSession) -> None:
    """Raises ModelFilesError for a graph whose inputs or outputs differ from the contract."""
    for kind, tensors, nodes in (
        ("input", expected.inputs, session.get_inputs()),
        ("output", expected.outputs, session.get_outputs()),
    ):
        found = {n.name: (tuple(n.shape[1:]), n.type) for n in nodes}
        wanted = {t.name: (t.shape, TYPES[t.dtype]) for t in tensors}
        # an input that a graph does not use is left out by the exporter
        wrong = [n for n in found if n not in wanted or found[n] != wanted[n]]
        missing = [n for n in wanted if n not in found]
        if wrong or missing:
            raise ModelFilesError(
                f"{role}: {kind}s differ from the step contract: "
                + "; ".join(f"{n} is {found[n]}, should be {wanted.get(n)}" for n in wrong)
                + (f"; {missing} missing" if missing else "")
                + "; `psistream export onnx` makes it again",
                field=role,
            )


def load(path: Path | None) -> OrtBackend:
    return OrtBackend(open_artifact(path))
