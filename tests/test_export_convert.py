"""`psistream convert`: a checkpoint in the public format, written by diffusers, becomes our model exactly; or
the reason why not is named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.backends.full import load_dit, read_config
from engine.companions.libraries import library
from engine.errors import InvalidInput, ModelFilesError
from engine.model.dit import MemoryPackDiT
from engine.model.full import Serve
from engine.model.presets import PRESETS
from export import convert as command
from export.convert import Options, choose_window, convert
from export.framepack import NAME
from tests import framepack

C = framepack.at_size(framepack.CONFIG, 4, 6)
OPTIONS = Options(height=32, width=48, segment=C.segment, image_tokens=framepack.IMAGE)
FLAGS = ["--height", "32", "--width", "48", "--segment", "3", "--image-tokens", "2x3"]
INDEX = f"{NAME}.safetensors.index.json"


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def reference() -> Any:
    return framepack.theirs(C)


@pytest.fixture(scope="module")
def public(reference: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In three shards or more, with the class's name that the public files bear."""
    folder = tmp_path_factory.mktemp("public")
    reference.save_pretrained(folder, max_shard_size="300KB")
    amend(folder, _class_name="HunyuanVideoTransformer3DModelPacked", _name_or_path="somebody/HunyuanVideo")
    assert len([*folder.glob(f"{NAME}-0000?-of-0000?.safetensors")]) > 2
    assert (folder / INDEX).is_file()
    return folder


def amend(folder: Path, **changes: Any) -> None:
    """Change config.json; None takes a key away."""
    file = folder / "config.json"
    data = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({k: v for k, v in data.items() if v is not None}))


def copied(public: Path, folder: Path) -> Path:
    shutil.copytree(public, folder)
    return folder


def loaded(out: Path, preset: str = "framepack-f1") -> MemoryPackDiT:
    config, _ = read_config(out, preset)
    return load_dit(out, config, torch.device("cpu"), torch.float32)


def test_a_converted_checkpoint_computes_what_diffusers_computes(
    public: Path, reference: Any, tmp_path: Path
) -> None:
    """Through the command, from the public format to our answers; with ψ masked, and with the ψ of a first
    segment, which is what a session has."""
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
    """Our config with the checkpoint's sizes, how to play it, and an index of the shards."""
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


def test_mixed_types_are_kept_and_what_is_added_takes_the_embedders(public: Path, tmp_path: Path) -> None:
    folder = copied(public, tmp_path / "in")
    for file in folder.glob("*.safetensors"):
        save_file({n: t if "norm" in n else t.bfloat16() for n, t in load_file(file).items()}, file)
    convert("framepack-f1", folder, tmp_path / "out", OPTIONS, quiet)
    held = load_file(next((tmp_path / "out").glob("model-*.safetensors")))
    kept = {n for n, t in held.items() if t.dtype == torch.float32}
    assert kept == {n for n in held if framepack.is_backbone(n) and "norm" in n}


# ---- what does not fit ----


def spoil(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    """Let `change` alter the tensors of the second shard."""
    file = sorted(folder.glob("*.safetensors"))[1]
    tensors: dict[str, Tensor] = load_file(file)
    change(tensors)
    save_file(tensors, file)


def test_every_tensor_that_differs_is_named_at_once(public: Path, tmp_path: Path) -> None:
    folder = copied(public, tmp_path / "in")
    first: list[str] = []

    def change(tensors: dict[str, Tensor]) -> None:
        first.extend(sorted(tensors))
        del tensors[first[0]], tensors[first[1]]
        tensors[first[2]] = torch.zeros(3)
        tensors[first[3]] = tensors[first[3]].to(torch.float64)
        tensors["lora.up"] = torch.zeros(2, 2)

    spoil(folder, change)
    with pytest.raises(ModelFilesError) as e:
        convert("framepack-f1", folder, tmp_path / "out", OPTIONS, quiet)
    text = e.value.message
    assert "5 of 166 tensors differ" in text
    assert f"missing: {first[0]} (" in text
    assert f"missing: {first[1]} (" in text
    assert f"misshaped: {first[2]} is (3,), must be (" in text
    assert f"type: {first[3]} is F64, must be one of BF16, F16, F32" in text
    assert "too many: lora.up (2, 2), in diffusion_pytorch_model-00002" in text
    assert not (tmp_path / "out").exists()


def test_a_tensor_in_two_shards_is_refused(public: Path, tmp_path: Path) -> None:
    folder = copied(public, tmp_path / "in")
    last = max(folder.glob("*.safetensors"))
    name, tensor = next(iter(load_file(last).items()))
    spoil(folder, lambda tensors: tensors.update({name: tensor}))
    with pytest.raises(ModelFilesError, match=rf"twice: {name}, in .*00002-of-.* and in {last.name}"):
        convert("framepack-f1", folder, tmp_path / "out", OPTIONS, quiet)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 3}, "frames is unknown here"),
        ({"_class_name": "WanTransformer3DModel"}, "_class_name is 'WanTransformer3DModel'"),
        ({"patch_size": 4}, "patch_size is 4, must be 2"),
        ({"out_channels": 32}, "out_channels is 32, must be 16"),
        ({"has_clean_x_embedder": None}, "has_clean_x_embedder is False, must be True"),
        ({"has_image_proj": False}, "has_image_proj is False"),
        ({"image_condition_type": "token_replace"}, "image_condition_type is 'token_replace', must be None"),
        ({"mlp_ratio": 2.0}, "mlp_ratio is 2.0"),
        ({"num_layers": "2"}, "num_layers is '2', must be a whole number above 0"),
        ({"num_layers": True}, "num_layers is True"),
        ({"rope_axes_dim": [4, 6]}, r"rope_axes_dim is \[4, 6\], must be 3 whole numbers"),
        ({"rope_axes_dim": [4, 6, 8]}, r"rope_axes \(4, 6, 8\) must sum to"),
        ({"num_layers": 3}, "missing: transformer_blocks.2.norm1.linear.weight"),
        ({"num_single_layers": 1}, "too many: single_transformer_blocks.1.norm.linear.weight"),
        (
            {"text_embed_dim": 32},
            r"misshaped: context_embedder.proj_in.weight is \(32, 24\), must be \(32, 32\)",
        ),
    ],
)
def test_a_config_of_another_network_is_refused(
    public: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = copied(public, tmp_path / "in")
    amend(folder, **change)
    with pytest.raises(ModelFilesError, match=message):
        convert("framepack-f1", folder, tmp_path / "out", OPTIONS, quiet)


def test_sizes_may_be_left_out_where_they_are_the_public_ones(public: Path, tmp_path: Path) -> None:
    folder = copied(public, tmp_path / "in")
    amend(folder, in_channels=None, out_channels=None, rope_theta=None, mlp_ratio=None, qk_norm=None)
    convert("framepack-f1", folder, tmp_path / "out", OPTIONS, quiet)


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ("config.json", "config.json not found"),
        (INDEX, "has neither diffusion_pytorch_model.safetensors.index.json nor"),
        ("shard", "00001-of-.* is missing; fetch"),
    ],
)
def test_files_that_lack_are_named(public: Path, tmp_path: Path, spoilt: str, message: str) -> None:
    folder = copied(public, tmp_path / "in")
    (min(folder.glob("*.safetensors")) if spoilt == "shard" else folder / spoilt).unlink()
    with pytest.raises(ModelFilesError, match=message):
        convert("framepack-f1", folder, tmp_path / "out", OPTIONS, quiet)


@pytest.mark.parametrize("name", ["config.json", INDEX, "shard"])
def test_corrupt_files_are_named(public: Path, tmp_path: Path, name: str) -> None:
    folder = copied(public, tmp_path / "in")
    file = min(folder.glob("*.safetensors")) if name == "shard" else folder / name
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelFilesError, match=file.name) as e:
        convert("framepack-f1", folder, tmp_path / "out", OPTIONS, quiet)
    assert "\n" not in e.value.message


@pytest.mark.parametrize(
    ("change", "field"),
    [({"height": 40}, "height"), ({"width": 0}, "width"), ({"segment": 0}, "segment")],
)
def test_impossible_sizes_are_refused(
    public: Path, tmp_path: Path, change: dict[str, int], field: str
) -> None:
    with pytest.raises(InvalidInput, match=f"--{field} is") as e:
        convert("framepack-f1", public, tmp_path / "out", replace(OPTIONS, **change), quiet)  # type: ignore[arg-type]
    assert e.value.field == field


def test_a_model_without_a_public_checkpoint_is_refused(public: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no public checkpoint of 'memorypack-1b3'"):
        convert("memorypack-1b3", public, tmp_path, OPTIONS, quiet)


# ---- what is there already ----


def test_companions_may_be_there_already_but_no_model(public: Path, tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    (tmp_path / "taehv.safetensors").write_bytes(b"")
    convert("framepack-f1", public, tmp_path, OPTIONS, quiet)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    with pytest.raises(ModelFilesError, match=r"config\.json exists: .* holds a model already"):
        convert("framepack-f1", public, tmp_path, OPTIONS, quiet)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelFilesError, match="which would be overwritten"):
        convert("framepack-f1", public, tmp_path, OPTIONS, quiet)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}.items() <= before.items()


def test_an_interrupted_conversion_goes_on_where_it_was(public: Path, tmp_path: Path) -> None:
    """Shards that were complete are not written again; the result is the same to the bit. Until it is done
    nobody takes the folder for a model."""
    small = replace(OPTIONS, shard_bytes=200_000)
    whole, out = tmp_path / "whole", tmp_path / "out"
    convert("framepack-f1", public, whole, small, quiet)
    fourth = sorted(whole.glob("model-*.safetensors"))[3].name
    (out / f"{fourth}.part").mkdir(parents=True)  # where the fourth shard would be written
    with pytest.raises(ModelFilesError, match="what is converted is kept, run the same again"):
        convert("framepack-f1", public, out, small, quiet)
    assert not (out / "config.json").exists()
    kept = {p.name: p.stat().st_mtime_ns for p in out.glob("model-*.safetensors")}
    assert len(kept) == 3
    with pytest.raises(ModelFilesError, match="the beginning of another conversion"):
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
from export.convert import Options, convert
from export.framepack import tensors_of

tensors_of(PRESETS["framepack-f1"].config)  # so that torch has loaded all of itself
data = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData"))
limit = 1024 * (data + int(sys.argv[3]))
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
o = Options(height=32, width=48, segment=3, image_tokens=(2, 3), dtype="bf16", shard_bytes=20_000_000)
convert("framepack-f1", Path(sys.argv[1]), Path(sys.argv[2]), o)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limit on a process's own memory")
def test_the_whole_is_never_in_memory(tmp_path: Path) -> None:
    """A checkpoint of 120 MB within 24 MB of memory, which is a few times its largest tensor."""
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
