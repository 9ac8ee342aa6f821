"""Opens the store that --snapshots names."""

from __future__ import annotations

from server.gateway.storage.stores.base import SessionStore
from server.gateway.storage.stores.files import FileStore
from server.gateway.storage.stores.objects import s3_store
from server.gateway.storage.stores.redis import RedisStore
from server.storage import StorageConfig


def open_store(config: StorageConfig) -> SessionStore:
    """It isn't asked anything yet. Raises Unavailable if its client is not installed, and InvalidInput for
    what that client does not understand."""
    if config.folder is not None:
        return FileStore(config.folder)
    return s3_store(config) if config.scheme == "s3" else RedisStore(config)
