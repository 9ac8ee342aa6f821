"""Text files of every editor are read if their encoding is certain, and refused by name otherwise."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from engine.errors import InvalidInput
from engine.text_files import decode_text, read_text
from engine.training.recipe import load
from engine.variants.plan import read_plan

TEXT = "a café\nон идёт\n"


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
        codecs.BOM_UTF8 + TEXT.replace("\n", "\r\n").encode(),
    ],
)
def test_the_text_is_the_same_however_it_was_saved(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    assert read_text(tmp_path / "a.txt", "--videos") == TEXT


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_plain_letters_in_utf_16_need_no_mark(encoding: str) -> None:
    assert decode_text("a fox\r\n".encode(encoding), "a.txt", "videos") == "a fox\n"


def test_an_empty_file_is_empty_text() -> None:
    assert decode_text(b"", "a.txt", "videos") == decode_text(codecs.BOM_UTF8, "a.txt", "videos") == ""


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp1251", "shift-jis"])
def test_an_uncertain_encoding_is_reported_with_the_line_and_the_fix(encoding: str, tmp_path: Path) -> None:
    text = {"latin-1": "café", "cp1252": "“fox”", "cp1251": "лиса", "shift-jis": "狐"}[encoding]
    (tmp_path / "a.txt").write_bytes(b"a fox\n" + text.encode(encoding))
    with pytest.raises(InvalidInput, match=r"--videos: .*a\.txt, line 2: .*save the file as UTF-8") as caught:
        read_text(tmp_path / "a.txt", "--videos")
    assert caught.value.field == "videos"


def test_missing_and_too_large_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no file .*none\.txt"):
        read_text(tmp_path / "none.txt", "videos")
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_text(tmp_path, "videos")
    (tmp_path / "large.txt").write_bytes(b"x" * (2**20 + 1))
    with pytest.raises(InvalidInput, match="is larger than 1 MiB"):
        read_text(tmp_path / "large.txt", "videos", most=2**20)


@pytest.mark.parametrize("reads", [load, read_plan])
def test_recipes_and_plans_of_every_editor_are_read(reads: object, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes('name = "é"\n'.encode("latin-1"))
    with pytest.raises(InvalidInput, match=r"a\.toml, line 1: .*save the file as UTF-8"):
        reads(path)  # type: ignore[operator]
    path.write_bytes("nonsense = 1\r\n".encode("utf-16"))
    with pytest.raises(InvalidInput, match=r"nonsense|a plan lists"):
        reads(path)  # type: ignore[operator]
