"""`psistream convert`: a checkpoint in the public format, written by diffusers, becomes our model exactly, or
is refused with the reason."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.backends.framepack import load_dit, read_config
from engine.companions.libraries import library
from engine.errors import ModelFilesError
from engine.model.framepack.roles import Serve
from engine.model.framepack.transformer import FramePackDiT
from engine.model.presets import PRESETS
from export.checkpoint.public import NAME
from export.framepack import convert as command
from export.framepack.convert import FramePackOptions, choose_window, convert
from tests.rigs.models import framepack

C = framepack.at_size(framepack.CONFIG, 4, 6)
OPTIONS = FramePackOptions(height=32, width=48, segment=C.segment, image_tokens=framepack.IMAGE)
FLAGS = ["--height", "32", "--width", "48", "--segment", "3", "--image-tokens", "2x3"]
INDEX = f"{NAME}.safetensors.index.json"


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def reference() -> Any:
    return framepack.theirs(C)


@pytest.fixture(scope="module")
def public(reference: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In three shards or more."""
    folder = framepack.write_public(tmp_path_factory.mktemp("public"), reference)
    assert len([*folder.glob(f"{NAME}-0000?-of-0000?.safetensors")]) > 2
    assert (folder / INDEX).is_file()
    return folder


def loaded(out: Path, preset: str = "framepack-f1") -> FramePackDiT:
    config, _ = read_config(out, preset)
    return load_dit(out, config, torch.device("cpu"), torch.float32)


def test_a_converted_checkpoint_computes_what_diffusers_computes(
    public: Path, reference: Any, tmp_path: Path
) -> None:
    """From the public format through the command to our model's output: with ψ masked, and with the ψ of a
    session's first segment."""
    out = tmp_path / "out"
    assert command.main(["framepack-f1", str(public), str(out), *FLAGS]) == 0
    model = loaded(out)
    c = model.config
    given = framepack.inputs(c, [200, 90, 1])
    given["index"] += 3
    with torch.no_grad():
        expected = framepack.their_velocity(reference, c, given, framepack.f1_indices(c))
        assert float(expected.std()) > 1
        assert float((framepack.our_velocity(model, given) - expected).abs().max()) <= 1e-5
        image = model.image_projection(given["image"])
        given["psi"] = model.initial_memory(given["text"], image, given["text_mask"])
        given["psi_mask"] = torch.cat([given["text_mask"], torch.ones_like(image[..., 0])], 1)
        assert float((framepack.our_velocity(model, given) - expected).abs().max()) < 1e-3


def test_the_folder_says_what_it_holds(public: Path, tmp_path: Path) -> None:
    """It contains our config with the checkpoint's sizes, how to play it, and an index of the shards."""
    convert("framepack-f1", public, tmp_path, replace(OPTIONS, shard_bytes=400_000), quiet)
    data = json.loads((tmp_path / "config.json").read_text())
    assert sorted(data) == ["config", "format", "preset", "serve"]
    config, serve = read_config(tmp_path, "framepack-f1")
    memory = replace(PRESETS["framepack-f1"].config.memory, image_tokens=(2, 3), window=(3, 2, 3))
    packing = replace(C.packing, rope_consistency=False)
    assert config == replace(C, memory=memory, packing=packing)
    assert serve == Serve(height=32, width=48, fps=30, steps=25, sampler="unipc", shift=7)
    shards = sorted(p.name for p in tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert shards == [f"model-{k:05d}-of-{len(shards):05d}.safetensors" for k in range(1, len(shards) + 1)]
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    for name in shards:
        held = load_file(tmp_path / name)
        assert {k for k, v in index["weight_map"].items() if v == name} == set(held)
    assert index["metadata"]["total_size"] == sum(4 * p.numel() for p in loaded(tmp_path).parameters())
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "config.json",
        *shards,
        "model.safetensors.index.json",
    ]


def test_one_file_converts_as_shards_do(public: Path, reference: Any, tmp_path: Path) -> None:
    single = tmp_path / "single"
    reference.save_pretrained(single)
    assert (single / f"{NAME}.safetensors").is_file()
    convert("framepack-f1", single, tmp_path / "a", OPTIONS, quiet)
    convert("framepack-f1", public, tmp_path / "b", OPTIONS, quiet)
    a, b = loaded(tmp_path / "a").state_dict(), loaded(tmp_path / "b").state_dict()
    assert all(torch.equal(a[name], b[name]) for name in b)


def test_f0_is_the_same_network_in_its_own_order(public: Path, reference: Any, tmp_path: Path) -> None:
    convert("framepack-f0", public, tmp_path, OPTIONS, quiet)
    model = loaded(tmp_path, "framepack-f0")
    given = framepack.inputs(model.config, [7])
    given["index"] += 2
    with torch.no_grad():
        expected = framepack.their_velocity(
            reference, model.config, given, framepack.f0_indices(model.config, 2)
        )
        assert float((framepack.our_velocity(model, given) - expected).abs().max()) <= 1e-5


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_weights_are_stored_as_asked(public: Path, tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    convert("framepack-f1", public, tmp_path, replace(OPTIONS, dtype=name), quiet)
    held = load_file(next(tmp_path.glob("model-*.safetensors")))
    assert {t.dtype for t in held.values()} == {dtype}
    assert torch.equal(held["psi_bias"].float(), torch.full((4,), -7.5))


def test_mixed_types_are_kept_and_added_tensors_have_the_embedders_type(public: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(public, tmp_path / "in"))
    for file in folder.glob("*.safetensors"):
        save_file({n: t if "norm" in n else t.bfloat16() for n, t in load_file(file).items()}, file)
    convert("framepack-f1", folder, tmp_path / "out", OPTIONS, quiet)
    held = load_file(next((tmp_path / "out").glob("model-*.safetensors")))
    kept = {n for n, t in held.items() if t.dtype == torch.float32}
    assert kept == {n for n in held if framepack.is_backbone(n) and "norm" in n}


# ---- existing files ----


def test_the_folder_may_hold_companions_but_no_model(public: Path, tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    (tmp_path / "taehv.safetensors").write_bytes(b"")
    convert("framepack-f1", public, tmp_path, OPTIONS, quiet)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    with pytest.raises(ModelFilesError, match=r"config\.json exists: .* already holds a model"):
        convert("framepack-f1", public, tmp_path, OPTIONS, quiet)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelFilesError, match="which would be overwritten"):
        convert("framepack-f1", public, tmp_path, OPTIONS, quiet)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}.items() <= before.items()


def test_an_interrupted_conversion_continues(public: Path, tmp_path: Path) -> None:
    """Complete shards are not written again, and the result is identical bit for bit. Until it is finished,
    the folder does not count as a model."""
    small = replace(OPTIONS, shard_bytes=200_000)
    whole, out = tmp_path / "whole", tmp_path / "out"
    convert("framepack-f1", public, whole, small, quiet)
    fourth = sorted(whole.glob("model-*.safetensors"))[3].name
    (out / f"{fourth}.part").mkdir(parents=True)  # where the fourth shard would be written
    with pytest.raises(ModelFilesError, match="finished shards are kept: run the same command to continue"):
        convert("framepack-f1", public, out, small, quiet)
    assert not (out / "config.json").exists()
    kept = {p.name: p.stat().st_mtime_ns for p in out.glob("model-*.safetensors")}
    assert len(kept) == 3
    with pytest.raises(ModelFilesError, match="another, unfinished conversion"):
        convert("framepack-f1", public, out, replace(small, seed=1), quiet)
    (out / f"{fourth}.part").rmdir()
    convert("framepack-f1", public, out, small, quiet)
    assert {n: (out / n).stat().st_mtime_ns for n in kept} == kept
    assert {p.name for p in out.iterdir()} == {p.name for p in whole.iterdir()}
    for file in whole.iterdir():
        assert (out / file.name).read_bytes() == file.read_bytes(), file.name


LIMITED = """
import resource, sys
from pathlib import Path
from engine.model.presets import PRESETS
from export.framepack.convert import FramePackOptions, convert
from export.framepack.checkpoint import tensors_of

tensors_of(PRESETS["framepack-f1"].config)  # so that torch has loaded all of itself
data = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData"))
limit = 1024 * (data + int(sys.argv[3]))
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
o = FramePackOptions(
    height=32, width=48, segment=3, image_tokens=(2, 3), dtype="bf16", shard_bytes=20_000_000
)
convert("framepack-f1", Path(sys.argv[1]), Path(sys.argv[2]), o)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limit on a process's own memory")
def test_the_checkpoint_is_never_loaded_as_a_whole(tmp_path: Path) -> None:
    """It converts 120 MB with 24 MB of memory, which is a few times the largest tensor."""
    c = replace(C, dim=384, heads=12, rope_axes=(8, 12, 12), double_blocks=2, single_blocks=6)
    model = library("diffusers").HunyuanVideoFramepackTransformer3DModel(**framepack.public_config(c))
    model.save_pretrained(tmp_path / "in", max_shard_size="50MB")
    size = sum(p.stat().st_size for p in (tmp_path / "in").iterdir())
    assert size > 120e6
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "in"), str(tmp_path / "out"), str(24 * 1024)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "out" / "config.json").is_file()


# ---- the window ----


@pytest.mark.parametrize(
    ("grid", "window"),
    [
        ((9, 30, 52), (3, 5, 13)),
        ((3, 30, 52), (3, 5, 13)),
        ((2, 6, 10), (2, 6, 10)),
        ((4, 34, 44), (2, 17, 4)),
        ((7, 37, 41), (1, 1, 41)),
        ((1, 1, 1), (1, 1, 1)),
    ],
)
def test_the_window_divides_the_tokens_and_has_about_the_same_size(
    grid: tuple[int, int, int], window: tuple[int, int, int]
) -> None:
    assert choose_window(*grid) == window
    assert all(n % w == 0 for n, w in zip(grid, window, strict=True))
