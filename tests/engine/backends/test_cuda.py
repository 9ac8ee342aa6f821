"""Fixed buffers, state that stays where it is, and the ways to a device, as far as a machine without one can
show them: the same code runs on the CPU, without recording. The rest is in gpu/test_backends.py."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.backends import auto as fallback
from engine.backends.base import failure
from engine.backends.gpu.cuda import DeviceBackend, module_bodies, world_modules
from engine.backends.gpu.graphs import RoleGraph, Tensors
from engine.backends.pytorch import ReferenceBackend
from engine.backends.registry import load_backend
from engine.errors import BackendError, OutOfMemory, PsistreamError, Unavailable
from engine.model.precision import low_roles, lowered
from engine.model.signature import ModelSpec, Role, signature
from engine.runtime.segment.generator import Generator, Job
from engine.runtime.state.state import SessionState
from tests.rigs.engine import tiny
from tests.rigs.skips import has_device

CPU = torch.device("cpu")
SPEC = tiny.world_model().spec(name="tiny", fps=16, steps=2, first_steps=3)
ROLES = signature(SPEC)


def no_tokens(text: str) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(6, dtype=np.int64), np.ones(6, np.float32)


def backend(kind: torch.dtype = torch.float32) -> DeviceBackend:
    """The device's backend without a device: nothing is compiled or recorded."""
    model = tiny.world_model()
    modules = dict(model.roles(SPEC))
    if kind != torch.float32:
        low = lowered(model, kind)
        modules.update(low_roles(low.roles(SPEC), ROLES, kind))
    return DeviceBackend("cuda", SPEC, module_bodies(SPEC, modules, compiled=False), no_tokens, CPU)


def squeeze_inputs(batch: int = 2, seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {t.name: torch.randn(batch, *t.shape, generator=g) for t in ROLES["squeeze"].inputs}


def test_state_is_read_where_it_was_written_and_never_moves() -> None:
    """ψ ping-pongs between two buffers over any number of calls."""
    step = backend().step("squeeze", 2)
    given = squeeze_inputs()
    out = step(given)
    copies, addresses = step.copies, []
    assert copies == 2
    for _ in range(6):
        out = step({"psi": out["psi_next"], "memory": given["memory"]})
        addresses.append(out["psi_next"].data_ptr())
    assert step.copies == copies + 6  # the segment's memory alone
    assert len(set(addresses)) == 2
    assert addresses[::2] == addresses[:1] * 3


def test_buffers_in_turn_give_what_fresh_tensors_give() -> None:
    device, model = backend(), tiny.world_model()
    given = squeeze_inputs()
    psi, expected = given["psi"], given["psi"].clone()
    for seed in range(5):
        memory = squeeze_inputs(seed=seed + 1)["memory"]
        psi = device.run_device("squeeze", {"psi": psi, "memory": memory})["psi_next"]
        with torch.inference_mode():
            expected = model.dit.squeeze(expected, memory)
        assert torch.equal(psi, expected)


def test_what_is_already_in_its_place_is_not_copied() -> None:
    step = backend().step("memorize", 1)
    turn = step.turns[0]
    turn.inputs["segment"].normal_()
    step(dict(turn.inputs))
    assert step.copies == 0


def test_roles_without_state_have_one_set_of_buffers() -> None:
    assert len(backend().step("denoise", 1).turns) == 1
    assert len(backend().step("decode", 1).turns) == 2


def test_each_batch_size_has_its_own_buffers() -> None:
    device = backend()
    one, two = device.step("squeeze", 1), device.step("squeeze", 2)
    assert device.step("squeeze", 1) is one
    assert one.turns[0].inputs["psi"].shape[0] == 1
    assert two.turns[0].inputs["psi"].data_ptr() != one.turns[0].inputs["psi"].data_ptr()


def test_a_shape_that_is_not_the_contracts_is_named() -> None:
    step = backend().step("squeeze", 2)
    with pytest.raises(BackendError, match=r"psi is \(1, 3\), should be \(2, 10, 32\)"):
        step({"psi": torch.zeros(1, 3), "memory": torch.zeros(2, 10, 32)})


def test_what_the_body_raises_names_the_role() -> None:
    def broken(given: Tensors, made: Tensors) -> None:
        raise RuntimeError("out of memory")

    device = DeviceBackend("cuda", SPEC, {"memorize": broken}, no_tokens, CPU)
    given = {"segment": torch.zeros(1, *ROLES["memorize"].inputs[0].shape)}
    with pytest.raises(OutOfMemory, match="memorize: out of memory"):
        device.run_device("memorize", given)
    assert device._steps == {}  # its buffers are free


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), OutOfMemory),
        (torch.OutOfMemoryError("no room"), OutOfMemory),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), OutOfMemory),
        (RuntimeError("Failed to allocate memory for requested buffer of size 64"), OutOfMemory),
        (RuntimeError("expected a tensor"), BackendError),
    ],
)
def test_libraries_say_in_many_ways_that_memory_ran_out(error: Exception, kind: type[BackendError]) -> None:
    found = failure("decode", error)
    assert type(found) is kind
    assert found.message.startswith("decode: ")


def test_odd_batches_run_as_the_next_power_of_two_and_their_rows_are_the_callers_own() -> None:
    device = backend()
    given = {name: x.numpy() for name, x in squeeze_inputs(3).items()}
    three = device.run("squeeze", given)["psi_next"]
    kept = three.copy()
    for n in (1, 4, 3):
        device.run("squeeze", {name: x[:n].repeat(2, 0)[:n] for name, x in given.items()})
    assert {batch for _, batch in device._steps} == {1, 4}
    np.testing.assert_array_equal(three, kept)
    for row in range(3):
        alone = device.run("squeeze", {name: x[row : row + 1] for name, x in given.items()})["psi_next"]
        np.testing.assert_allclose(alone[0], three[row], atol=1e-5)


def play(player: Generator, spec: ModelSpec, segments: int = 4) -> list[SessionState]:
    states = [SessionState.zeros(spec) for _ in range(2)]
    for n, state in enumerate(states):
        player.conditioner.start_scene(state, "a red fox", seed=n, scene=0)
    for n in range(segments):
        jobs = [Job(state, n % 4) for state in states]
        latents = player.denoise(jobs)
        player.finish(jobs, latents)
    return states


class Reference(ReferenceBackend):
    """Of the tiny model, without its files."""

    def __init__(self) -> None:
        super(ReferenceBackend, self).__init__(
            "reference", SPEC, tiny.world_model().roles(SPEC), no_tokens, CPU
        )


def test_a_session_plays_as_in_the_reference() -> None:
    """Two sessions in one batch, decoder state and ψ through numpy and back."""
    states = play(Generator(backend()), SPEC)
    for state, expected in zip(states, play(Generator(Reference()), SPEC), strict=True):
        np.testing.assert_array_equal(state.history, expected.history)
        np.testing.assert_array_equal(state.psi, expected.psi)


def test_in_bf16_only_the_roles_that_take_the_time_lose_precision() -> None:
    low, exact = backend(torch.bfloat16), backend()
    g = torch.Generator().manual_seed(0)
    given = {
        role: {t.name: torch.rand(2, *t.shape, generator=g) for t in ROLES[role].inputs}
        for role in ("squeeze", "memorize", "embed_image", "decode")
    }
    for role, inputs in given.items():
        a, b = low.run_device(role, inputs), exact.run_device(role, inputs)
        for name, x in a.items():
            assert x.dtype == b[name].dtype
            same = torch.equal(x, b[name])
            assert same == (role not in ("squeeze", "memorize")), role
            torch.testing.assert_close(x.float(), b[name].float(), rtol=0, atol=0.2)


def test_closing_twice_is_fine() -> None:
    device = backend()
    device.close()
    device.close()


def test_an_artifacts_modules_fit_its_contract(tiny_artifact: Path) -> None:
    modules = world_modules(tiny_artifact, CPU, torch.bfloat16)
    assert list(modules) == list(ROLES)


@pytest.mark.skipif(has_device(), reason="there is a device")
@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_without_a_device_a_backend_that_was_named_is_refused(name: str) -> None:
    """Whoever names one gets that one or an error: nothing falls back unasked."""
    with pytest.raises(Unavailable, match="CUDA"):
        load_backend(name)


def test_auto_takes_what_there_is_and_says_so_in_one_line(
    tiny_artifact: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "engine.backends.auto"):
        found = load_backend("auto", tiny_artifact)
    assert len(caplog.messages) == 1
    if not has_device():
        assert found.name == "onnxruntime"
        assert caplog.messages[0].startswith("backend: onnxruntime; not tensorrt and cuda: no")
    found.close()


def test_with_a_device_the_chain_goes_on_where_one_is_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fallback, "cuda_device", lambda: None)
    tried: list[str] = []
    device = backend()

    def load_from(module: object) -> DeviceBackend:
        tried.append(getattr(module, "__name__", "?"))
        if len(tried) < 3:
            raise Unavailable(f"refusal {len(tried)}")
        return device

    assert fallback.first(fallback.ON_DEVICE, fallback.ON_CPU, load_from) is device
    assert tried == ["engine.backends.gpu.tensorrt", "engine.backends.gpu.cuda", "engine.backends.ort"]
    assert caplog.messages == ["backend: cuda; not tensorrt: refusal 1; not cuda: refusal 2"]


def test_the_last_ones_error_is_not_swallowed(tmp_path: Path) -> None:
    with pytest.raises(PsistreamError, match="manifest"):
        load_backend("auto", tmp_path)


def test_a_step_knows_the_contracts_types() -> None:
    role: Role = ROLES["decode"]

    def body(given: Tensors, made: Tensors) -> None:
        made["frames"].fill_(7)

    out = RoleGraph(role, 1, body, CPU)({t.name: torch.zeros(1, *t.shape) for t in role.inputs})
    assert out["frames"].dtype == torch.uint8
    assert int(out["frames"].min()) == 7


def test_a_role_can_be_on_another_device() -> None:
    """Its buffers are there, and what it gives comes back to the host like any other's."""
    base = backend()
    other = torch.device("cpu", 0)
    moved = DeviceBackend(
        "cuda", SPEC, dict(base._bodies), no_tokens, CPU, elsewhere={"decode": other, "squeeze": other}
    )
    assert moved.step("squeeze", 1).device == other
    assert moved.step("memorize", 1).device == CPU
    given = {n: x.numpy() for n, x in squeeze_inputs().items()}
    for name, found in moved.run("squeeze", given).items():
        np.testing.assert_array_equal(found, base.run("squeeze", given)[name])


def test_helios_stages_are_compiled_and_its_families_module_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.backends.fake_pyramid import PYRAMID_SPEC
    from engine.backends.gpu import cuda

    compiled: list[torch.nn.Module] = []

    def compiling(module: torch.nn.Module, **_: object) -> torch.nn.Module:
        compiled.append(module)
        return module

    monkeypatch.setattr(torch, "compile", compiling)
    modules = {role: torch.nn.Identity() for role in signature(PYRAMID_SPEC)}
    module_bodies(PYRAMID_SPEC, modules, compiled=True)
    wanted = {id(modules[role]) for role in ("denoise_0", "denoise_1", "denoise_2", "decode")}
    assert set(map(id, compiled)) == wanted
    assert cuda.family_of("helios").__name__ == "engine.backends.helios"
    assert cuda.family_of("framepack-f1").__name__ == "engine.backends.framepack"
