"""Reads users' text files: with a byte order mark, in UTF-16, with the line ends of any system.

Other encodings are refused rather than guessed, since a wrong guess would change the text.
"""

from __future__ import annotations

import codecs
from pathlib import Path

from engine.errors import InvalidInput

MAX_BYTES = 256 * 2**20
_MARKS = (  # longest first: UTF-32's begins like UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path, what: str, *, most: int = MAX_BYTES) -> str:
    """The text of a file, with lines ending in "\\n". Raises InvalidInput that names the file if it is
    missing, unreadable, or larger than `most` bytes; `what` is the option or field that named it."""
    try:
        if path.stat().st_size > most:
            raise InvalidInput(f"{what}: {path} is larger than {most >> 20} MiB", field=_field(what))
        data = path.read_bytes()
    except FileNotFoundError:
        raise InvalidInput(f"{what}: there is no file {path}", field=_field(what)) from None
    except OSError as error:
        raise InvalidInput(f"{what}: {path} cannot be read: {error.strerror}", field=_field(what)) from None
    return decode_text(data, str(path), what)


def decode_text(data: bytes, name: str, what: str) -> str:
    """The text in `data`. Messages call it `name`. Raises InvalidInput for other encodings."""
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "")
    try:
        text = data.decode(encoding or _unmarked(data))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidInput(
            f"{what}: {name}, line {line}: byte {data[error.start]:#x} is not UTF-8: save the file as UTF-8",
            field=_field(what),
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _field(what: str) -> str:
    return what.strip("-").replace("-", "_")


def _unmarked(data: bytes) -> str:
    """The encoding of data without a mark. In UTF-16, every other byte of plain letters is zero."""
    start = data[:200]
    if len(start) > 3 and not any(start[::2]) and all(start[1::2]):
        return "utf-16-be"
    if len(start) > 3 and not any(start[1::2]) and all(start[::2]):
        return "utf-16-le"
    return "utf-8"
