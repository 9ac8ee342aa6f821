"""Weights that are put into a TensorRT engine, and engines that are chosen for them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from engine.backends.artifact import Artifact
from engine.backends.gpu import engine_files as engines
from engine.backends.gpu.tensorrt import choose_role, deserialized
from engine.backends.gpu.tensorrt_api import Api
from engine.errors import BackendError, ModelFilesError
from tests.engine.backends.engine_cache import cache_of
from tests.engine.backends.test_engines import artifact, record

__all__ = ["artifact", "record"]  # fixtures

API = Api("tensorrt", "11.4.0.106", SimpleNamespace())


@dataclass
class FakeRefitter:
    """Of an engine with two weights, one of which the builder made part of something else."""

    has: tuple[str, ...] = ("a", "b")
    missing: tuple[str, ...] = ()
    done: list[str] = field(default_factory=list)
    works: bool = True

    def get_all_weights(self) -> list[str]:
        return list(self.has)

    def get_missing_weights(self) -> list[str]:
        return list(self.missing)

    def refit_cuda_engine(self) -> bool:
        self.done.append("refitted")
        return self.works


def library(refitter: FakeRefitter, *, plan: object = SimpleNamespace(device_memory_size_v2=10)) -> Api:
    """TensorRT's module, as far as loading and refitting go. It notes what it is asked for."""

    class Reader:
        num_errors = 1

        def __init__(self, refitter: FakeRefitter, words: object) -> None:
            self.refitter = refitter

        def refit_from_file(self, path: str) -> bool:
            self.refitter.done.append(Path(path).name)
            return self.refitter.works or not self.refitter.missing

        def get_error(self, n: int) -> SimpleNamespace:
            return SimpleNamespace(desc=lambda: "it does not fit")

    module = SimpleNamespace(
        ILogger=type("ILogger", (), {"Severity": SimpleNamespace(ERROR=1)}),
        Runtime=lambda words: SimpleNamespace(deserialize_cuda_engine=lambda data: plan),
        Refitter=lambda engine, words: refitter,
        OnnxParserRefitter=Reader,
    )
    return Api("tensorrt", "11.4.0.106", module)


def variant_of(
    record: Path, artifact: Artifact, variant: str, weights: tuple[str, ...]
) -> engines.EngineRecord:
    """The same engine as it would have been built with that variant."""
    plain = engines.read(record)
    held = engines.weights_of(artifact, artifact.graph("decode"), variant)
    inputs = replace(plain.inputs, variant=variant, weights=held)
    return replace(plain, inputs=inputs, key=inputs.key, weights=weights)


def test_weights_are_put_into_an_engine_by_the_graphs_names(record: Path, artifact: Artifact) -> None:
    plan, cpu = record.with_suffix(".plan"), torch.device("cpu")
    for variant in ("refit", "stripped"):
        refitter = FakeRefitter()
        engine = variant_of(record, artifact, variant, ("a", "b"))
        bodies = deserialized(library(refitter), artifact, {"decode": (engine, plan)}, cpu)
        assert list(bodies) == ["decode"]
        assert refitter.done == ["decode.onnx", "refitted"]
    refitter = FakeRefitter()
    deserialized(library(refitter), artifact, {"decode": (engines.read(record), plan)}, cpu)
    assert refitter.done == []


@pytest.mark.parametrize(
    ("refitter", "said"),
    [
        (FakeRefitter(has=("a",)), "1 can't be replaced, first b"),
        (FakeRefitter(missing=("c",)), "1 were not given, first c"),
        (FakeRefitter(works=False), "no reason given"),
        (FakeRefitter(works=False, missing=("c",)), "it does not fit"),
    ],
)
def test_weights_that_have_no_place_are_named_with_the_command_that_mends_it(
    record: Path, artifact: Artifact, refitter: FakeRefitter, said: str
) -> None:
    """Else a fine-tune would go on with some of the old weights, and look only a little wrong."""
    engine = variant_of(record, artifact, "refit", ("a", "b"))
    chosen = {"decode": (engine, record.with_suffix(".plan"))}
    with pytest.raises(BackendError, match=rf"decode: .*{said}.*`psistream export tensorrt .* --batch 4`"):
        deserialized(library(refitter), artifact, chosen, torch.device("cpu"))


def test_a_plan_is_hashed_as_it_is_read(record: Path, artifact: Artifact) -> None:
    """Between the check of the file and the reading of it, somebody may have changed it."""
    plan = record.with_suffix(".plan")
    engine = engines.read(record)
    plan.write_bytes(b"other" * 80)
    with pytest.raises(ModelFilesError, match="was changed while it was loaded"):
        deserialized(library(FakeRefitter()), artifact, {"decode": (engine, plan)}, torch.device("cpu"))


def test_a_plan_that_the_library_refuses_is_named(record: Path, artifact: Artifact) -> None:
    chosen = {"decode": (engines.read(record), record.with_suffix(".plan"))}
    with pytest.raises(BackendError, match=r"decode: tensorrt 11\.4\.0\.106 refused tensorrt-11.*\.plan"):
        deserialized(library(FakeRefitter(), plan=None), artifact, chosen, torch.device("cpu"))


def test_an_engine_that_needs_no_refit_is_preferred_and_one_without_weights_is_taken_last(
    record: Path, artifact: Artifact
) -> None:
    cache = cache_of(record, artifact)
    place = cache / artifact.spec.name / "decode"
    plain = place / record.name
    for variant in ("refit", "stripped"):
        other = variant_of(plain, artifact, variant, ())
        plan = place / f"{other.inputs.stem}.plan"
        plan.write_bytes(plain.with_suffix(".plan").read_bytes())
        engines.write(plan.with_suffix(".json"), replace(other, file=plan.name))
    found = []
    for _ in range(3):
        engine, plan = choose_role(artifact, cache, API, "sm90", "decode")
        found.append(engine.inputs.variant)
        plan.with_suffix(".json").unlink()
    assert found == ["plain", "refit", "stripped"]
