"""`python -m server.contracts docs` writes openapi.json and asyncapi.json into a folder."""

from __future__ import annotations

import sys
from pathlib import Path

from server.contracts.documents import documents


def main(folder: str) -> None:
    for name, text in documents().items():
        (Path(folder) / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
