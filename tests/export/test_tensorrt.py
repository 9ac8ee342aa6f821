"""Engines built ahead of time by TensorRT-RTX on the CPU: it parses every graph and compiles for each
architecture. Checking their results needs a GPU."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import onnx
import pytest

from engine.backends.artifact import Artifact, open_artifact, write_manifest
from engine.backends.gpu.engine_files import EngineRecord, read
from engine.backends.gpu.tensorrt_api import load_api
from engine.errors import BackendError, InvalidInput, ModelFilesError, Unavailable
from engine.model.precision import LOW
from engine.model.signature import signature
from export.cli import main
from export.tensorrt.build import EnginePlan, build, inputs_of, parsed, record_path
from export.wander import export_again
from tests.rigs.engine import tiny
from tests.rigs.skips import has_device

pytest.importorskip("tensorrt_rtx", reason="pip install 'psistream[rtx]'")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # the export is made in whichever test comes first

RTX = "tensorrt_rtx"
SPEC = tiny.world_model().spec(name="tiny", fps=16, steps=2, first_steps=3)
GRAPHS = [(role, "fp32") for role in signature(SPEC)] + [(role, "bf16") for role in LOW]


@pytest.fixture(scope="module")
def artifact(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """With bf16 graphs beside those in fp32."""
    folder = Path(shutil.copytree(tiny_artifact, tmp_path_factory.mktemp("bf16") / "model"))
    export_again(folder, folder, ["bf16"])
    return open_artifact(folder)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "engines"


def squeeze(target: str = "sm89", precision: str = "fp32", variant: str = "plain") -> EnginePlan:
    return EnginePlan("squeeze", precision, target, (1, 2, 2), variant)


def made(artifact: Artifact, cache: Path, plan: EnginePlan) -> EngineRecord:
    return build(artifact, plan, cache=cache, backend=RTX)[0]


@pytest.mark.parametrize(("role", "precision"), GRAPHS)
def test_the_parser_takes_every_graph(artifact: Artifact, role: str, precision: str) -> None:
    result = parsed(artifact, role, precision, RTX)
    graph = artifact.graph(role, precision)
    layers = result.layers or {}
    assert layers.get("ATTENTION_INPUT", 0) == graph.operators.get("Attention", 0)
    assert layers.get("ROTARY_EMBEDDING", 0) == graph.operators.get("RotaryEmbedding", 0)


@pytest.mark.parametrize("target", ["sm80", "sm89", "sm120", "any"])
def test_an_engine_is_built_on_a_cpu_for_each_architecture(
    artifact: Artifact, cache: Path, target: str
) -> None:
    engine = made(artifact, cache, squeeze(target, "bf16"))
    assert (engine.inputs.target, engine.level, engine.built_on) == (target, "built", "a CPU, ahead of time")
    assert engine.state == {"psi_next": "psi"}
    assert not engine.decomposable
    record = record_path(cache, artifact, engine.inputs)
    assert read(record) == engine
    assert record.with_suffix(".plan").stat().st_size == engine.bytes > 0
    assert record.with_suffix(".log").is_file()
    assert sorted(f.suffix for f in record.parent.iterdir()) == [".json", ".lock", ".log", ".plan"]
    assert (cache / f"{RTX}-{engine.inputs.version}-{target}.timing").is_file()


def test_the_denoiser_is_built_with_its_attention_and_rotations(artifact: Artifact, cache: Path) -> None:
    engine = made(artifact, cache, EnginePlan("denoise", "bf16", "sm89", (1, 2, 2)))
    assert engine.layers["ATTENTION_INPUT"] == 2
    assert engine.layers["ROTARY_EMBEDDING"] == 4
    assert not engine.decomposable


def test_attention_in_fp32_has_no_kernel_and_is_decomposed_and_that_is_recorded(
    artifact: Artifact, cache: Path
) -> None:
    engine = made(artifact, cache, squeeze())
    assert engine.decomposable
    log = record_path(cache, artifact, engine.inputs).with_suffix(".log").read_text()
    assert "setDecomposable" in log


def test_a_cached_engine_that_fits_is_not_built_again(artifact: Artifact, cache: Path) -> None:
    first, there = build(artifact, squeeze(precision="bf16"), cache=cache, backend=RTX)
    assert not there
    second, there = build(artifact, squeeze(precision="bf16"), cache=cache, backend=RTX)
    assert there
    assert second == first


def test_a_damaged_engine_is_built_again(artifact: Artifact, cache: Path) -> None:
    engine = made(artifact, cache, squeeze(precision="bf16"))
    plan = record_path(cache, artifact, engine.inputs).with_suffix(".plan")
    plan.write_bytes(plan.read_bytes()[:-1] + b"x")
    again, there = build(artifact, squeeze(precision="bf16"), cache=cache, backend=RTX)
    assert not there
    assert again.key == engine.key


def test_two_builders_of_one_engine_build_it_once(artifact: Artifact, cache: Path) -> None:
    found: list[bool] = []

    def one() -> None:
        found.append(build(artifact, squeeze(precision="bf16"), cache=cache, backend=RTX)[1])

    builders = [threading.Thread(target=one) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(60)
    assert sorted(found) == [False, True]


def test_progress_is_reported(artifact: Artifact, cache: Path) -> None:
    lines: list[str] = []
    build(artifact, squeeze(precision="bf16"), cache=cache, backend=RTX, progress=lines.append)
    assert any(line.endswith(" 1") for line in lines)


def test_a_build_that_takes_too_long_is_stopped_and_leaves_nothing(artifact: Artifact, cache: Path) -> None:
    with pytest.raises(BackendError, match=r"squeeze .*built no engine: stopped after 0 s; see the log"):
        build(artifact, squeeze(), cache=cache, backend=RTX, timeout_s=0.0)
    assert not list(cache.rglob("*.plan*"))
    assert not list(cache.rglob("*.json"))


def test_refittable_weights_need_a_gpu_and_the_error_says_so(artifact: Artifact, cache: Path) -> None:
    plan = squeeze(precision="bf16", variant="refit")
    if has_device():
        assert made(artifact, cache, plan).inputs.variant == "refit"
        return
    with pytest.raises(BackendError, match=r"CUDA driver|CUDA_SUCCESS") as e:
        made(artifact, cache, plan)
    log = Path(e.value.message.rpartition("see the log ")[2])
    assert "CUDA" in log.read_text()
    assert not list(cache.rglob("*.json"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"target": "sm55"}, r".sm55. is unknown to .*; choose any or one of .*sm89"),
        ({"batch": (2, 1, 1)}, r"--batch: \(2, 1, 1\) must be at least 1"),
        ({"batch": (0, 1, 1)}, "must be at least 1 and increasing"),
        ({"batch": (1, 3, 3)}, "--batch must be a power of two.* not 3"),
        ({"variant": "small"}, "unknown variant 'small'"),
    ],
)
def test_invalid_plans_are_refused_before_anything_is_built(
    artifact: Artifact, cache: Path, change: dict[str, object], match: str
) -> None:
    wish: dict[str, object] = {"role": "squeeze", "target": "sm89", **change}
    with pytest.raises(InvalidInput, match=match):
        build(artifact, EnginePlan(**wish), cache=cache, backend=RTX)  # type: ignore[arg-type]
    assert not cache.exists()


def test_a_missing_device_is_reported(artifact: Artifact, cache: Path) -> None:
    if has_device():
        assert made(artifact, cache, squeeze("here")).level == "built"
        return
    with pytest.raises(Unavailable, match="CUDA"):
        build(artifact, squeeze("here"), cache=cache, backend=RTX)


def test_a_graph_with_a_renamed_input_is_refused_by_its_engines_inputs(
    artifact: Artifact, tmp_path: Path, cache: Path
) -> None:
    """The manifest is unchanged, but the graph is another one."""
    folder = Path(shutil.copytree(artifact.path, tmp_path / "renamed"))
    file = folder / "squeeze.onnx"
    model = onnx.load(file, load_external_data=False)
    model.graph.input[0].name = "phi"
    for node in model.graph.node:
        node.input[:] = ["phi" if name == "psi" else name for name in node.input]
    onnx.save(model, file)
    write_manifest(folder, artifact.spec, artifact.config, artifact.graphs)
    with pytest.raises(ModelFilesError, match=r"squeeze: of the engine's inputs, phi is .* should be None"):
        build(open_artifact(folder), squeeze("any"), cache=cache, backend=RTX)


def test_an_unknown_operator_is_named(artifact: Artifact, tmp_path: Path, cache: Path) -> None:
    folder = Path(shutil.copytree(artifact.path, tmp_path / "odd"))
    file = folder / "squeeze.onnx"
    model = onnx.load(file, load_external_data=False)
    model.graph.node[-1].op_type = "Dream"
    onnx.save(model, file)
    write_manifest(folder, artifact.spec, artifact.config, artifact.graphs)
    with pytest.raises(BackendError, match="Dream"):
        build(open_artifact(folder), squeeze("any"), cache=cache, backend=RTX)


def test_another_target_or_precision_has_another_place(artifact: Artifact, cache: Path) -> None:
    api = load_api(RTX)
    plans = [squeeze(t, p) for t in ("sm80", "sm89") for p in ("fp32", "bf16")]
    assert len({record_path(cache, artifact, inputs_of(artifact, p, api)) for p in plans}) == 4


def test_the_command_builds_and_says_what_is_there(
    artifact: Artifact, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tensorrt", str(artifact.path), "--roles", "embed_image,squeeze", "--precision", "bf16"]
    words += ["--target", "sm89", "--backend", RTX, "--cache", str(cache)]
    assert main(words) == 0
    assert "built in" in capsys.readouterr().out
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.count("in the cache") == 2
    assert "embed_image      fp32  sm89" in out
    records = [json.loads(f.read_text()) for f in cache.rglob("*.json")]
    assert {(r["inputs"]["role"], r["inputs"]["precision"]) for r in records} == {
        ("embed_image", "fp32"),
        ("squeeze", "bf16"),
    }


def test_the_command_can_ask_the_parser_alone(
    artifact: Artifact, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tensorrt", str(artifact.path), "--roles", "decode", "--parse", "--backend", RTX]) == 0
    assert "decode           fp32  parsed" in capsys.readouterr().out
    assert not cache.exists()
