"""An engine is loaded only if it is what its record says, for this model, this library and this device."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.backends.artifact import (
    WEIGHTS,
    Artifact,
    Graph,
    described,
    open_artifact,
    sha256,
    write_manifest,
)
from engine.backends.gpu import engine_files as engines
from engine.backends.gpu.engine_files import EngineRecord, Inputs, check, private, read, write
from engine.errors import ModelFilesError
from engine.model.signature import signature
from tests.engine.backends.model_folder import pointing_at
from tests.rigs.engine import tiny

SPEC = tiny.world_model().spec(name="tiny", fps=16, steps=2, first_steps=3)
ROLE = signature(SPEC)["decode"]
HERE = {"backend": "tensorrt", "version": "11.4.0.106", "target": "sm90"}


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    """Its graph is empty but for where its weight lies: nothing here runs it."""
    folder = tmp_path / "model"
    tiny.write_text_files(folder)
    (folder / WEIGHTS).write_bytes(bytes(100))
    (folder / "decode.onnx").write_bytes(pointing_at(WEIGHTS))
    graph = Graph(
        "decode", "decode.onnx", "fp32", 23, 10, 0, {}, described(ROLE.inputs), described(ROLE.outputs)
    )
    write_manifest(folder, SPEC, {}, [graph])
    return open_artifact(folder)


@pytest.fixture
def record(artifact: Artifact, tmp_path: Path) -> Path:
    folder = tmp_path / "engines"
    folder.mkdir(mode=0o700)
    graph = artifact.graph("decode")
    inputs = Inputs(
        role="decode",
        precision="fp32",
        graph=artifact.files[graph.file],
        weights=engines.weights_of(artifact, graph),
        batch=(1, 4, 4),
        backend=HERE["backend"],
        version=HERE["version"],
        target=HERE["target"],
    )
    plan = folder / f"{inputs.stem}.plan"
    plan.write_bytes(b"code" * 100)
    engine = EngineRecord(
        model="tiny",
        key=inputs.key,
        inputs=inputs,
        file=plan.name,
        bytes=400,
        sha256=sha256(plan),
        source={"file": "decode.onnx"},
        tensors={"inputs": described(ROLE.inputs), "outputs": described(ROLE.outputs)},
        state={"state_next": "state"},
        layers={"CONVOLUTION": 3},
        decomposable=False,
        build_s=1.5,
        build_peak_bytes=2**28,
        built_on="a test",
        tools={"torch": "2.13.0"},
        evidence=({"level": "built"},),
    )
    write(folder / f"{inputs.stem}.json", engine)
    return folder / f"{inputs.stem}.json"


def refused(record: Path, artifact: Artifact, match: str, **other: str) -> ModelFilesError:
    with pytest.raises(ModelFilesError, match=match) as e:
        check(record, read(record), artifact, **{**HERE, **other})
    return e.value


def edit(record: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(record.read_text())
    change(data)
    record.write_text(json.dumps(data))


def test_an_engine_that_fits_is_found(record: Path, artifact: Artifact) -> None:
    engine = read(record)
    assert check(record, engine, artifact, **HERE) == record.with_suffix(".plan")
    assert engine.level == "built"
    assert engine.inputs.weights == {WEIGHTS: artifact.files[WEIGHTS]}


@pytest.mark.parametrize(
    ("other", "said", "field"),
    [
        (
            {"version": "11.5.0"},
            r"built by tensorrt 11\.4\.0\.106, installed is tensorrt 11\.5\.0",
            "version",
        ),
        ({"backend": "tensorrt_rtx"}, r"installed is tensorrt_rtx 11\.4", "version"),
        ({"target": "sm89"}, "built for sm90, this device is sm89", "target"),
    ],
)
def test_another_library_or_device_is_named_with_the_command_that_mends_it(
    record: Path, artifact: Artifact, other: dict[str, str], said: str, field: str
) -> None:
    error = refused(record, artifact, said, **other)
    assert error.field == field
    assert "`psistream export tensorrt " in error.message
    assert "--roles decode --precision fp32 --backend tensorrt --batch 4` builds it again" in error.message


def test_code_for_any_architecture_runs_on_each(record: Path, artifact: Artifact) -> None:
    engine = read(record)
    inputs = replace(engine.inputs, target="any")
    other = record.parent / f"{inputs.stem}.json"
    write(other, replace(engine, inputs=inputs, key=inputs.key))
    assert check(other, read(other), artifact, **{**HERE, "target": "sm120"}).is_file()


def test_one_changed_byte_of_a_plan_is_found(record: Path, artifact: Artifact) -> None:
    plan = record.with_suffix(".plan")
    data = bytearray(plan.read_bytes())
    data[200] ^= 1
    plan.write_bytes(data)
    assert refused(record, artifact, r"\.plan is corrupt or was changed").field == "sha256"


def test_a_plan_that_is_a_link_or_missing_is_refused(
    record: Path, artifact: Artifact, tmp_path: Path
) -> None:
    plan = record.with_suffix(".plan")
    plan.rename(tmp_path / "elsewhere")
    assert refused(record, artifact, "is missing or lies elsewhere").field == "file"
    plan.symlink_to(tmp_path / "elsewhere")
    assert refused(record, artifact, "is missing or lies elsewhere").field == "file"


@pytest.mark.parametrize("name", ["../x.plan", "/tmp/x.plan", "..", ""])
def test_a_plan_out_of_the_folder_is_refused(record: Path, artifact: Artifact, name: str) -> None:
    edit(record, lambda data: data.update(file=name))
    assert refused(record, artifact, "is missing or lies elsewhere").field == "file"


def test_changed_weights_are_named(record: Path, artifact: Artifact) -> None:
    """A fine-tune: same graph, other bytes."""
    folder = artifact.path
    (folder / WEIGHTS).write_bytes(bytes(99) + b"1")
    write_manifest(folder, artifact.spec, artifact.config, artifact.graphs)
    error = refused(record, open_artifact(folder), rf"the weights in {WEIGHTS} are others")
    assert error.field == "weights"


def test_weights_that_can_be_replaced_may_change(record: Path, artifact: Artifact) -> None:
    """What spares a fine-tune the build: the key says which files, not what is in them."""
    graph = artifact.graph("decode")
    engine = read(record)
    inputs = replace(engine.inputs, variant="refit", weights=engines.weights_of(artifact, graph, "refit"))
    assert inputs.weights == {WEIGHTS: "replaceable"}
    other = record.parent / f"{inputs.stem}.json"
    write(other, replace(engine, inputs=inputs, key=inputs.key))
    folder = artifact.path
    (folder / WEIGHTS).write_bytes(bytes(99) + b"1")
    write_manifest(folder, artifact.spec, artifact.config, artifact.graphs)
    tuned = open_artifact(folder)
    assert check(other, read(other), tuned, **HERE).is_file()
    assert engines.weights_of(tuned, graph, "refit") == inputs.weights
    stripped = replace(inputs, variant="stripped", weights=engines.weights_of(artifact, graph, "stripped"))
    write(other, replace(engine, inputs=stripped, key=stripped.key))
    error = refused(other, tuned, rf"the weights in {WEIGHTS} are others")
    assert error.message.endswith("--batch 4 --variant stripped` builds it again")


def test_another_graph_is_named(record: Path, artifact: Artifact) -> None:
    folder = artifact.path
    (folder / "decode.onnx").write_bytes(pointing_at(WEIGHTS) + pointing_at(WEIGHTS))
    write_manifest(folder, artifact.spec, artifact.config, artifact.graphs)
    assert refused(record, open_artifact(folder), r"decode\.onnx is another graph").field == "graph"


@pytest.mark.parametrize("change", [{"name": "noise"}, {"shape": ["batch", 1]}, {"dtype": "int64"}])
def test_a_renamed_or_reshaped_input_is_named(
    record: Path, artifact: Artifact, change: dict[str, object]
) -> None:
    edit(record, lambda data: data["tensors"]["inputs"][0].update(change))
    assert refused(record, artifact, r"decode: of its inputs, .* should be .*'latents'").field == "inputs"


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "fp32", "variant": "stripped"},
        {"batch": [1, 8, 8]},
        {"level": 5},
        {"workspace_bytes": 2**30},
    ],
)
def test_a_record_that_was_edited_no_longer_fits_its_key(
    record: Path, artifact: Artifact, change: dict[str, object]
) -> None:
    edit(record, lambda data: data["inputs"].update(change))
    assert refused(record, artifact, "its key is not that of its inputs").field == "key"


def test_a_record_of_another_model_is_refused(record: Path, artifact: Artifact) -> None:
    edit(record, lambda data: data.update(model="wander"))
    assert refused(record, artifact, "built for model 'wander', this is 'tiny'").field == "model"


def test_engines_are_not_taken_from_where_others_may_write(record: Path, artifact: Artifact) -> None:
    record.parent.chmod(0o777)
    assert refused(record, artifact, r"others may write there.*chmod 700").field == "engines"
    record.parent.chmod(0o700)
    assert check(record, read(record), artifact, **HERE)


def test_a_folder_that_is_a_link_or_missing_is_not_private(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ModelFilesError, match="is not a folder of its own"):
        private(tmp_path / "link")
    with pytest.raises(ModelFilesError, match="No such file"):
        private(tmp_path / "none")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '{"format": 2}', '{"format": 2, "inputs": 3}'])
def test_what_is_no_record_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ModelFilesError, match="is not the record of an engine"):
        read(tmp_path / "x.json")


def test_a_record_of_another_format_is_refused(record: Path) -> None:
    edit(record, lambda data: data.update(format=1))
    with pytest.raises(ModelFilesError, match="has format 1, this version reads 2"):
        read(record)


def test_every_input_of_a_build_is_in_its_key() -> None:
    """And nothing else: two builds of the same give other bytes, so a plan can't be its own key."""
    base = Inputs("denoise", "bf16", "tensorrt", "11.4", "sm90", "g", {"w": "1"}, (1, 4, 4))
    others: dict[str, object] = {
        "role": "decode",
        "precision": "fp16",
        "backend": "tensorrt_rtx",
        "version": "11.5",
        "target": "sm89",
        "graph": "h",
        "weights": {"w": "2"},
        "batch": (1, 8, 8),
        "variant": "refit",
        "level": 3,
        "workspace_bytes": 1,
        "sizes": ({"x": [3]},),
    }
    assert set(others) == set(Inputs.__dataclass_fields__)
    changes: list[Any] = [{name: value} for name, value in others.items()]
    keys = {base.key, *(replace(base, **change).key for change in changes)}
    assert len(keys) == len(others) + 1
    assert replace(base).key == base.key


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PSISTREAM_ENGINES", str(tmp_path))
    assert engines.cache_folder() == tmp_path
    monkeypatch.delenv("PSISTREAM_ENGINES")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert engines.cache_folder() == tmp_path / "psistream" / "engines"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert engines.cache_folder().parts[-3:] == (".cache", "psistream", "engines")
    assert os.path.isabs(engines.cache_folder())
