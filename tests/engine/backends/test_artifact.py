"""A model's folder: whatever is wrong with it is told by name, before anything is loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import pytest

from engine.backends import artifact as artifacts
from engine.backends.artifact import (
    EMBEDDINGS,
    TOKENIZER,
    WEIGHTS,
    open_artifact,
    write_manifest,
)
from engine.backends.locations import locations
from engine.backends.tokenizer import PromptTokenizer
from engine.errors import ModelFilesError
from engine.model.signature import signature
from tests.engine.backends.model_folder import GRAPH, edit, pointing_at, refused
from tests.rigs.engine import tiny

SPEC = tiny.world_model().spec(name="tiny", fps=16, steps=2, first_steps=3)

DECODE = signature(SPEC)["decode"]


def test_a_sound_folder_opens_with_all_that_its_manifest_says(folder: Path) -> None:
    artifact = open_artifact(folder)
    assert artifact.spec == SPEC
    assert artifact.graphs == (GRAPH,)
    assert artifact.graph("decode") == GRAPH
    assert artifact.tools == {"torch": "2.13.0"}
    assert artifact.evidence == ({"level": "parity"},)
    assert artifact.config == {"dit": {}}
    assert set(artifact.files) == {EMBEDDINGS, TOKENIZER, WEIGHTS, "decode.onnx"}
    assert artifact.file(WEIGHTS) == folder / WEIGHTS


def test_a_folder_without_a_manifest_says_what_makes_one(tmp_path: Path) -> None:
    error = refused(
        tmp_path, r"manifest\.json not found: --model must name a folder made by `psistream export`$"
    )
    assert error.field == "model"


def test_the_built_in_model_is_restored_with_git(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(artifacts, "BUILT_IN", folder)
    (folder / WEIGHTS).write_bytes(b"spoilt")
    assert refused(folder, rf"`git checkout -- {folder}` restores it").field == WEIGHTS


def test_missing_built_in_weights_say_to_clone_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "BUILT_IN", tmp_path)
    with pytest.raises(ModelFilesError, match="the built-in weights are missing, clone the repository again"):
        open_artifact(None)


@pytest.mark.parametrize("name", [WEIGHTS, EMBEDDINGS, TOKENIZER, "decode.onnx"])
def test_one_changed_byte_is_found_and_the_file_named(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    assert refused(folder, rf"{name} is corrupt or was changed.*`psistream export onnx --run").field == name


@pytest.mark.parametrize("name", [WEIGHTS, EMBEDDINGS, TOKENIZER, "decode.onnx"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert refused(folder, rf"{name} is missing; `psistream export onnx").field == name


@pytest.mark.parametrize("name", [WEIGHTS, EMBEDDINGS, TOKENIZER])
def test_a_file_that_nobody_vouches_for_is_not_used(folder: Path, name: str) -> None:
    """Backends open these by their names: unlisted, their bytes would go unchecked."""
    edit(folder, lambda data: data["files"].pop(name))
    assert refused(folder, rf"does not list {name}").field == "files"


@pytest.mark.parametrize("version", [0, 3, "2", None])
def test_another_format_is_refused(folder: Path, version: object) -> None:
    edit(folder, lambda data: data.update(format=version))
    expected = f"has format {version!r}, this version reads 2; `psistream export onnx --run RUN --out"
    assert refused(folder, expected).field == "format"


def test_the_first_format_is_refused_with_the_command_that_mends_it(folder: Path) -> None:
    edit(folder, lambda data: data.update(format=1, roles={"decode": "decode.onnx"}))
    assert (
        refused(folder, r"has format 1, .*`psistream export upgrade .*model` rewrites it").field == "format"
    )


def test_a_spec_with_an_unknown_key_is_refused(folder: Path) -> None:
    edit(folder, lambda data: data["spec"].update(colour="blue"))
    assert refused(folder, r"spec has unknown keys \['colour'\]").field == "spec"


def test_a_spec_that_lacks_a_key_is_refused(folder: Path) -> None:
    edit(folder, lambda data: data["spec"].pop("fps"))
    assert refused(folder, r"lacks \['fps'\]").field == "spec"


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "sub/file", ".."])
def test_a_path_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_text("x")
    edit(folder, lambda data: data["files"].update({name: "0" * 64}))
    assert refused(folder, "must be a plain name in the folder").field == "files"


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    secret = folder.parent / "secret"
    shutil.move(folder / WEIGHTS, secret)
    (folder / WEIGHTS).symlink_to(secret)
    assert refused(folder, rf"file '{WEIGHTS}' must be a plain name").field == "files"


def test_a_role_that_names_no_file_of_the_folder_is_refused(folder: Path) -> None:
    edit(folder, lambda data: data["graphs"][0].update(file="other.onnx"))
    expected = r"role 'decode' names 'other\.onnx', which is not among its files"
    assert refused(folder, expected).field == "graphs"


def test_a_role_that_there_is_not_is_refused(folder: Path) -> None:
    edit(folder, lambda data: data["graphs"][0].update(role="dream"))
    assert refused(folder, r"'dream' is no role of tiny; known are encode_text").field == "graphs"


def test_a_graph_in_another_precision_says_how_to_make_it(folder: Path) -> None:
    with pytest.raises(ModelFilesError, match=r"no bf16 graph for role 'decode'; .*--precision bf16"):
        open_artifact(folder).graph("decode", "bf16")


@pytest.mark.parametrize("key", ["inputs", "outputs"])
@pytest.mark.parametrize("change", [{"name": "noise"}, {"dtype": "int64"}, {"shape": ["batch", 3]}])
def test_a_renamed_or_reshaped_input_or_output_is_named(
    folder: Path, key: str, change: dict[str, object]
) -> None:
    edit(folder, lambda data: data["graphs"][0][key][0].update(change))
    expected = rf"decode: {key[:-1]} .*{next(iter(change.values()))}.* should be .*`psistream export onnx"
    assert refused(folder, expected.replace("[", r"\[")).field == "decode"


def test_an_input_too_many_or_too_few_is_named(folder: Path) -> None:
    edit(folder, lambda data: data["graphs"][0]["inputs"].pop())
    assert refused(folder, "decode: input None should be .*'state'").field == "decode"


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "unlisted.bin", "./model.safetensors", ""])
def test_a_graph_that_points_at_a_file_nobody_vouches_for_is_refused(folder: Path, location: str) -> None:
    """Its own bytes are vouched for; where it points is checked all the same."""
    (folder / "decode.onnx").write_bytes(pointing_at(location))
    write_manifest(folder, SPEC, {}, [GRAPH])
    edit(folder, lambda data: data["files"].pop("unlisted.bin", None))
    expected = rf"decode\.onnx points at '{location}', which is not among the manifest's files"
    assert refused(folder, expected).field == "decode.onnx"


@pytest.mark.parametrize("data", [b"not a graph", b"\x3a\xff\x01ab", b"\x3a", b"\x80" * 12])
def test_what_is_no_graph_is_named(folder: Path, data: bytes) -> None:
    (folder / "decode.onnx").write_bytes(data)
    write_manifest(folder, SPEC, {}, [GRAPH])
    assert refused(folder, r"decode\.onnx is not an ONNX file: ").field == "decode.onnx"


def test_weights_are_found_wherever_a_graph_may_hold_them(folder: Path) -> None:
    """In nodes' attributes, in graphs within graphs, in functions."""

    def outside(name: str) -> onnx.TensorProto:
        model = onnx.ModelProto.FromString(pointing_at(name))
        tensor: onnx.TensorProto = model.graph.initializer[0]
        return tensor

    inner = onnx.GraphProto(initializer=[outside("in a branch")])
    attributes = [
        onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR, t=outside("in an attribute")),
        onnx.AttributeProto(name="then", type=onnx.AttributeProto.GRAPH, g=inner),
        onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, f=0.5),
    ]
    node = onnx.NodeProto(op_type="If", attribute=attributes)
    function = onnx.FunctionProto(
        name="f",
        node=[
            onnx.NodeProto(
                attribute=[
                    onnx.AttributeProto(
                        name="value", type=onnx.AttributeProto.TENSORS, tensors=[outside("in a function")]
                    )
                ]
            )
        ],
    )
    model = onnx.ModelProto(ir_version=10, graph=onnx.GraphProto(node=[node]), functions=[function])
    assert locations(model.SerializeToString()) == {"in an attribute", "in a branch", "in a function"}


def with_default(name: str) -> bytes:
    """A model with a function whose attribute defaults to weights in another file."""
    tensor = onnx.ModelProto.FromString(pointing_at(name)).graph.initializer[0]
    default = onnx.AttributeProto(name="w", type=onnx.AttributeProto.TENSOR, t=tensor)
    function = onnx.FunctionProto(name="f", domain="d", attribute_proto=[default])
    model = onnx.ModelProto.FromString(pointing_at("model.safetensors"))
    model.functions.append(function)
    data: bytes = model.SerializeToString()
    return data


def test_a_folder_whose_graph_defines_functions_is_refused(folder: Path) -> None:
    """A default of a function's attribute named a file outside the folder, and was read."""
    assert locations(with_default("../secret")) >= {"../secret"}
    (folder / "decode.onnx").write_bytes(with_default("../secret"))
    write_manifest(folder, SPEC, {}, [GRAPH])
    assert refused(folder, r"decode\.onnx is not an ONNX file: it defines functions").field == "decode.onnx"


def test_prompts_become_lower_case_words_cut_to_length(folder: Path) -> None:
    tokenize = PromptTokenizer(folder / TOKENIZER, 4)
    ids, mask = tokenize("A red FOX")
    assert ids.tolist() == [*(tiny.WORDS.index(w) for w in ("a", "red", "fox")), 0]
    assert mask.tolist() == [1, 1, 1, 0]
    assert tokenize("a a a a a a")[1].tolist() == [1, 1, 1, 1]
    assert tokenize("")[1].tolist() == [0, 0, 0, 0]


def test_a_broken_tokenizer_file_is_named(folder: Path) -> None:
    (folder / TOKENIZER).write_text("{}")
    with pytest.raises(ModelFilesError, match=r"tokenizer\.json is not a tokenizer file") as e:
        PromptTokenizer(folder / TOKENIZER, 4)
    assert e.value.field == TOKENIZER
