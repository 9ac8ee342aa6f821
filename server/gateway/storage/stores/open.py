"""Opens the store that --snapshots names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from server.gateway.storage.stores.base import SessionStore
from server.gateway.storage.stores.files import FileStore
from server.gateway.storage.stores.objects import s3_store
from server.gateway.storage.stores.redis import RedisStore
from server.storage import StorageConfig


def open_store(config: StorageConfig) -> SessionStore:
    """It isn't asked anything yet. Raises Unavailable if its client is not installed."""
    match config.scheme:
        case "file":
            return FileStore(Path(unquote(urlsplit(config.url).path)))
        case "s3":
            return s3_store(config)
        case _:
            return RedisStore(config)
