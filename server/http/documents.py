"""The API's contracts as files: `python -m server.http.documents docs` writes them into the folder docs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from server.config import ServerConfig
from server.contracts.asyncapi import asyncapi
from server.contracts.openapi import openapi
from server.http.app import routers_of
from server.http.services import Services


def documents() -> dict[str, str]:
    """The text of each file, by its name."""
    services = cast(Services, SimpleNamespace(config=ServerConfig()))
    made = {"openapi.json": openapi(routers_of(services)), "asyncapi.json": asyncapi()}
    return {name: as_text(document) for name, document in made.items()}


def as_text(document: dict[str, Any]) -> str:
    """The document as JSON without the version, which differs between installations."""
    fixed = {**document, "info": {**document["info"], "version": "1"}}
    return json.dumps(fixed, indent=1, ensure_ascii=False) + "\n"


def main(folder: str) -> None:
    for name, text in documents().items():
        (Path(folder) / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
