"""OpenAPI as a page for people: plain HTML without scripts or resources of other sites."""

from __future__ import annotations

import json
from html import escape
from typing import Any

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "h2{margin:2rem 0 .3rem;font-size:1.1rem}code,pre{background:#f3f3f3;padding:.1rem .3rem}"
    "b{display:inline-block;min-width:4.5rem}details{margin:.3rem 0}pre{overflow:auto;padding:.6rem}"
)


def page_of(document: dict[str, Any]) -> str:
    """HTML."""
    parts = [f"<h1>{escape(document['info']['title'])} {escape(document['info']['version'])}</h1>"]
    parts.append(f"<p>{escape(document['info']['description'])} <a href=openapi.json>openapi.json</a></p>")
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(f"<h2><b>{method.upper()}</b> <code>{escape(path)}</code></h2>")
            parts.append(f"<p>{escape(operation['description'])}</p>")
            for title, value in (("body", operation.get("requestBody")), ("answers", operation["responses"])):
                if value:
                    text = escape(json.dumps(value, indent=1))
                    parts.append(f"<details><summary>{title}</summary><pre>{text}</pre></details>")
    parts.append("<h1>Schemas</h1>")
    for name, schema in document["components"]["schemas"].items():
        text = escape(json.dumps(schema, indent=1, ensure_ascii=False))
        parts.append(
            f"<details id={escape(name)}><summary>{escape(name)}</summary><pre>{text}</pre></details>"
        )
    body = "\n".join(parts)
    head = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>psistream API</title><style>{STYLE}</style>"
    )
    return f"{head}<body>{body}</body></html>\n"
