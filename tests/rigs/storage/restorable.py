"""A real server that keeps its sessions in a folder, is killed, and is restored from an earlier moment."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx

from benchmarks.network.ports import free_port
from benchmarks.server.subject import Subject, own_server
from server.gateway.storage.saved import SavedSession, unpack
from tests.rigs.waiting import LONG_S


class Restorable:
    """Each start is on the same port, with these options. `folder` is its own, for the sessions."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._kept, self._earlier, self._port = folder / "kept", folder / "earlier", free_port()
        self._options = [*options, "--snapshots", self._kept.as_uri(), "--snapshots-every", "1"]

    @contextlib.contextmanager
    def running(self) -> Iterator[Subject]:
        """At the end the server is killed, with its worker."""
        with own_server(self._options, self._port) as server:
            try:
                yield server
            finally:
                assert server.pid is not None
                os.kill(server.pid, signal.SIGKILL)

    def saved(self, session: str = "main") -> SavedSession | None:
        """What is kept of a session now."""
        try:
            return unpack((self._kept / "sessions" / session).read_bytes(), 0.0)
        except FileNotFoundError:
            return None

    def contains(self, *controls: str, session: str = "main") -> bool:
        """Whether what is kept has the effects of these controls, and nothing is left to be done again."""
        saved = self.saved(session)
        if saved is None or saved.controls or saved.opening.snapshot is None:
            return False
        return all(control.encode() in saved.record for control in controls)

    @staticmethod
    def log(server: Subject) -> list[str]:
        """The ids of the controls that `main` has applied since it was restored, in order."""
        answer = httpx.get(f"{server.target.path}/log", timeout=LONG_S, trust_env=False)
        assert answer.status_code == 200, answer.text
        return [line["id"] for line in map(json.loads, answer.text.splitlines()[1:])]

    def remember(self) -> None:
        """The moment to go back to."""
        shutil.copytree(self._kept, self._earlier)

    def go_back(self) -> None:
        """As if it had been killed at that moment. It isn't running."""
        shutil.rmtree(self._kept)
        shutil.copytree(self._earlier, self._kept)
