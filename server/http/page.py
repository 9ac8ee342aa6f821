"""The page of the clients package, served as it lies there."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import re
from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from server.http.guard import POLICY

INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)


class Page(StaticFiles):
    """All files of `folder`. Of the scripts within index.html, which the policy forbids elsewhere, exactly
    those that it had at the start may run."""

    def __init__(self, folder: Path) -> None:
        super().__init__(directory=folder, html=True)
        self._policy = f"{POLICY}; script-src 'self'{inline_scripts(folder / 'index.html')}"

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Content-Security-Policy"] = self._policy
        return response


def inline_scripts(document: Path) -> str:
    """The sources of Content-Security-Policy that allow them, each after a space."""
    found = INLINE.findall(document.read_text("utf-8"))
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in found)
    return "".join(f" 'sha256-{digest}'" for digest in digests)


def web_folder() -> Path:
    """Where the page is. The server treats it as data, not code."""
    return Path(str(importlib.resources.files("clients"))) / "web"
