"""Which engines would run, and how contexts and buffers are wired. Nothing is executed: that takes a GPU."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from engine.backends.artifact import Artifact
from engine.backends.gpu import engine_files as engines
from engine.backends.gpu.tensorrt import Arena, EngineBody, choose, choose_role, fitting
from engine.backends.gpu.tensorrt_api import Api, load_api, numbers
from engine.errors import BackendError, InvalidInput, ModelFilesError, Unavailable
from tests.engine.backends.engine_cache import cache_of
from tests.engine.backends.test_engines import artifact, record

__all__ = ["artifact", "record"]  # fixtures

API = Api("tensorrt", "11.4.0.106", SimpleNamespace())


def test_the_engine_that_fits_is_taken(record: Path, artifact: Artifact) -> None:
    cache = cache_of(record, artifact)
    (engine, plan), *others = choose(artifact, cache, API, "sm90").values()
    assert engine.inputs.role == "decode"
    assert plan.read_bytes().startswith(b"code")
    assert others == []


@pytest.mark.parametrize(
    ("api", "target", "said"),
    [
        (API, "sm89", "built for sm90, this device is sm89"),
        (Api("tensorrt", "11.5", None), "sm90", r"installed is tensorrt 11\.5"),
    ],
)
def test_why_none_fits_is_told(record: Path, artifact: Artifact, api: Api, target: str, said: str) -> None:
    cache = cache_of(record, artifact)
    with pytest.raises(ModelFilesError, match=rf"decode: no engine that fits: .*{said}.*export tensorrt"):
        choose_role(artifact, cache, api, target, "decode")


def test_with_no_engine_at_all_the_command_is_told(artifact: Artifact, tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=r"none was built for sm90 by tensorrt .*`psistream export"):
        choose_role(artifact, tmp_path, API, "sm90", "decode")


@dataclass
class FakeContext:
    """Notes what it is told."""

    largest: int = 4
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)
    memory: tuple[int, int] = (0, 0)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return shape[0] <= self.largest

    def infer_shapes(self) -> list[str]:
        return []

    def update_device_memory_size_for_shapes(self) -> int:
        return 1000

    def set_device_memory(self, address: int, size: int) -> None:
        self.memory = (address, size)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name != "odd"


def body(size: int = 4096) -> EngineBody:
    strategy = SimpleNamespace(USER_MANAGED=2)
    api = Api("tensorrt", "11", SimpleNamespace(ExecutionContextAllocationStrategy=strategy))
    engine = SimpleNamespace(create_execution_context=lambda strategy: FakeContext())
    arena = Arena(torch.device("cpu"))
    arena.reserve(size)
    return EngineBody("squeeze", api, engine, arena)


def test_a_context_gets_every_buffers_address_and_the_shared_arena() -> None:
    made = body()
    given, out = {"psi": torch.zeros(2, 3)}, {"psi_next": torch.zeros(2, 3)}
    context = made._context(given, {**given, **out})
    memory = made.arena.memory
    assert memory is not None
    assert context.shapes == {"psi": (2, 3)}
    assert context.addresses == {"psi": given["psi"].data_ptr(), "psi_next": out["psi_next"].data_ptr()}
    assert context.memory == (memory.data_ptr(), 4096)


def test_a_batch_that_no_profile_has_says_what_to_do() -> None:
    given = {"psi": torch.zeros(8, 3)}
    with pytest.raises(BackendError, match=r"psi \(8, 3\) is outside .*larger --batch"):
        body()._context(given, given)


def test_a_tensor_that_the_engine_does_not_know_is_named() -> None:
    given = {"odd": torch.zeros(1)}
    with pytest.raises(BackendError, match="knows no odd"):
        body()._context(given, given)


def test_an_arena_that_is_too_small_is_told() -> None:
    given = {"psi": torch.zeros(1)}
    with pytest.raises(BackendError, match="needs 1000 bytes, the arena has 10"):
        body(10)._context(given, given)


def test_an_arena_does_not_move_under_its_contexts() -> None:
    arena = Arena(torch.device("cpu"))
    arena.reserve(10)
    with pytest.raises(RuntimeError, match="address"):
        arena.reserve(20)


def test_the_library_that_built_engines_is_the_one_that_runs_them(
    record: Path, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are installed, and the engines are those of the second."""
    cache = cache_of(record, artifact)
    monkeypatch.setenv("PSISTREAM_ENGINES", str(cache))
    other = Api("tensorrt_rtx", "1.7.1.116", None)
    monkeypatch.setattr("engine.backends.gpu.tensorrt.installed", lambda: [other, API])
    api, chosen = fitting(artifact, "sm90")
    assert (api, list(chosen)) == (API, ["decode"])
    monkeypatch.setattr("engine.backends.gpu.tensorrt.installed", lambda: [other])
    with pytest.raises(ModelFilesError, match=r"installed is tensorrt_rtx 1\.7"):
        fitting(artifact, "sm90")


def test_a_cache_that_others_may_write_to_is_refused(record: Path, artifact: Artifact) -> None:
    """They could exchange the folder below, however private that is."""
    cache = cache_of(record, artifact)
    (cache / artifact.spec.name).chmod(0o777)
    with pytest.raises(ModelFilesError, match=r"others may write there.*chmod 700"):
        choose_role(artifact, cache, API, "sm90", "decode")


def test_unknown_libraries_are_refused() -> None:
    with pytest.raises(InvalidInput, match="unknown library 'cudnn'; choose one of tensorrt, tensorrt_rtx"):
        load_api("cudnn")


def test_what_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    expected = r"tensorrt cannot .*psistream\[gpu\].*; tensorrt_rtx .*psistream\[rtx\]"
    with pytest.raises(Unavailable, match=expected):
        load_api()


def test_what_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    old = ModuleType("tensorrt")
    old.__dict__["__version__"] = "10.14.1.48"
    monkeypatch.setitem(sys.modules, "tensorrt", old)
    with pytest.raises(Unavailable, match=r"tensorrt 10\.14\.1\.48 is too old, 10\.15 is needed"):
        load_api("tensorrt")


def test_versions_are_compared_as_numbers() -> None:
    assert numbers("10.15.1.post1") == (10, 15, 1)
    assert numbers("11.4.0.106") > numbers("10.15")
    assert numbers("odd") == ()


def test_everything_we_call_exists_in_the_real_library() -> None:
    """Its Python API is the same in tensorrt; a typo here would wait for somebody with a GPU."""
    trt = pytest.importorskip("tensorrt_rtx", reason="pip install 'psistream[rtx]'")
    used = {
        trt.IExecutionContext: (
            "set_input_shape infer_shapes update_device_memory_size_for_shapes set_device_memory "
            "set_tensor_address execute_async_v3"
        ),
        trt.ICudaEngine: "create_execution_context device_memory_size_v2",
        trt.Runtime: "deserialize_cuda_engine",
        trt.IBuilderConfig: (
            "set_flag set_memory_pool_limit add_optimization_profile create_timing_cache set_timing_cache "
            "get_timing_cache progress_monitor builder_optimization_level set_compute_capability"
        ),
        trt.BuilderFlag: "REFIT STRIP_PLAN REFIT_IDENTICAL",
        trt.ExecutionContextAllocationStrategy: "USER_MANAGED",
        trt.LayerType: "ATTENTION_INPUT",
        trt.IAttention: "decomposable",
        trt.ILogger: "Severity",
        trt.Refitter: "get_all_weights get_missing_weights refit_cuda_engine",
        trt.OnnxParserRefitter: "refit_from_file num_errors get_error",
    }
    missing = [(c.__name__, n) for c, names in used.items() for n in names.split() if not hasattr(c, n)]
    assert missing == []
    assert load_api("tensorrt_rtx").capability("sm89") is not None
    assert load_api("tensorrt_rtx").capability("sm55") is None
    assert engines.LEVELS[0] == "parsed"
