"""A model's folder: whatever is wrong with it is told by name, before anything is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.backends import artifact as artifacts
from engine.backends.artifact import EMBEDDINGS, TOKENIZER, WEIGHTS, open_artifact, write_manifest
from engine.backends.tokens import PromptTokenizer
from engine.errors import ModelFilesError
from tests import tiny

ROLES = {"decode": "decode.onnx"}
SPEC = tiny.world_model().spec(name="tiny", fps=16, steps=2, first_steps=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As an export leaves it, with other bytes in the large files."""
    folder = tmp_path / "model"
    tiny.write_text_files(folder)
    for name in (WEIGHTS, "decode.onnx"):
        (folder / name).write_bytes(bytes(1000) + name.encode())
    write_manifest(folder, SPEC, {"dit": {}}, ROLES)
    return folder


def refused(folder: Path, match: str) -> ModelFilesError:
    with pytest.raises(ModelFilesError, match=match) as e:
        open_artifact(folder)
    return e.value


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = folder / "manifest.json"
    data = json.loads(manifest.read_text())
    change(data)
    manifest.write_text(json.dumps(data))


def test_a_sound_folder_opens_with_all_that_its_manifest_says(folder: Path) -> None:
    artifact = open_artifact(folder)
    assert artifact.spec == SPEC
    assert artifact.roles == ROLES
    assert artifact.config == {"dit": {}}
    assert set(artifact.files) == {EMBEDDINGS, TOKENIZER, WEIGHTS, "decode.onnx"}
    assert artifact.file(WEIGHTS) == folder / WEIGHTS


def test_a_folder_without_a_manifest_says_what_makes_one(tmp_path: Path) -> None:
    error = refused(
        tmp_path, r"manifest\.json not found: --model must name a folder made by `psistream export`$"
    )
    assert error.field == "model"


def test_missing_built_in_weights_say_to_clone_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "BUILT_IN", tmp_path)
    with pytest.raises(ModelFilesError, match="the built-in weights are missing, clone the repository again"):
        open_artifact(None)


@pytest.mark.parametrize("name", [WEIGHTS, EMBEDDINGS, TOKENIZER, "decode.onnx"])
def test_one_changed_byte_is_found_and_the_file_named(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    assert refused(folder, rf"{name} is corrupt or was changed.*git checkout").field == name


@pytest.mark.parametrize("name", [WEIGHTS, EMBEDDINGS, TOKENIZER, "decode.onnx"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert refused(folder, rf"{name} is missing; restore it").field == name


@pytest.mark.parametrize("name", [WEIGHTS, EMBEDDINGS, TOKENIZER])
def test_a_file_that_nobody_vouches_for_is_not_used(folder: Path, name: str) -> None:
    """Backends open these by their names: unlisted, their bytes would go unchecked."""
    edit(folder, lambda data: data["files"].pop(name))
    assert refused(folder, rf"does not list {name}").field == "files"


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_is_refused(folder: Path, version: object) -> None:
    edit(folder, lambda data: data.update(format=version))
    assert (
        refused(folder, f"has format {version}, this version reads 1; export the model again").field
        == "format"
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
    edit(folder, lambda data: data["roles"].update(squeeze="other.onnx"))
    expected = r"role 'squeeze' names 'other\.onnx', which is not among its files"
    assert refused(folder, expected).field == "roles"


@pytest.mark.parametrize("key", ["format", "spec", "files", "roles", "config"])
def test_a_manifest_that_lacks_a_part_is_no_manifest(folder: Path, key: str) -> None:
    edit(folder, lambda data: data.pop(key))
    assert (
        refused(folder, rf"is not a manifest \(KeyError: '{key}'\); export the model again").field == "model"
    )


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '"text"', '{"format": 1, "files": 3}', "\udcff", "null"]
)
def test_what_is_no_json_of_ours_is_no_manifest(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert refused(folder, "is not a manifest").field == "model"


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["spec"].update(height="tall"),
        lambda data: data["spec"].update(actions="idle"),
        lambda data: data["spec"].update(history=[16, 2]),
        lambda data: data["spec"].update(steps=0),
        lambda data: data["spec"].update(fps=None),
    ],
)
def test_a_spec_with_values_of_the_wrong_kind_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    edit(folder, change)
    assert refused(folder, "spec").field == "spec"


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
