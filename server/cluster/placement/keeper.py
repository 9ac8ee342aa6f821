"""Keeps one `psistream worker` as a child process: whoever keeps it is asked whether it lives and why it
ended. The child ends when its keeper's process does, even if it is frozen, or its GPU would be given to
another one while it is still in use.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import IO

CHILD = "server.cluster.placement.child"
WORKER = [sys.executable, "-m", "server.cli", "worker"]
LAST_LINES, LINE_CHARS = 20, 500
STOP_S = 5.0
PREFIX = re.compile("^psistream worker: (error: )?")


class Keeper:
    """`arguments` are those of `psistream worker`. Methods may be called from any thread."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], log: IO[str] | None = None
    ) -> None:
        self._command = [sys.executable, "-m", CHILD, str(os.getpid()), *WORKER, *arguments]
        self._environment, self._log = dict(environment), log
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._process: subprocess.Popen[str] | None = None
        self._begun, self._over = threading.Event(), threading.Event()
        self._stopped = False
        self._why = ""
        # the kernel ends the child with the thread that started it, so that one waits for it
        self._thread = threading.Thread(target=self._keep, name="worker-keeper", daemon=True)
        self._thread.start()
        self._begun.wait()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def ended(self) -> bool:
        return self._over.is_set()

    @property
    def why(self) -> str:
        """What has ended it; empty while it runs."""
        return self._why

    def wait(self, within_s: float | None = None) -> bool:
        """Returns whether it has ended."""
        return self._over.wait(within_s)

    def stop(self, within_s: float = STOP_S) -> None:
        """End it: asked first, killed after `within_s` seconds."""
        self._stopped = True
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process is not None and not self.ended:
                with contextlib.suppress(ProcessLookupError):
                    self._process.send_signal(number)
                self._over.wait(within_s)

    def _keep(self) -> None:
        try:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # what is typed at a terminal is not meant for it
            )
        except OSError as error:
            self._why = f"cannot start {sys.executable}: {error.strerror or error}"
            self._over.set()
            return
        finally:
            self._begun.set()
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.append(line.rstrip()[:LINE_CHARS])
                if self._log is not None:
                    self._log.write(line)
                    self._log.flush()
        self._why = self._cause(self._process.wait())
        self._over.set()

    def _cause(self, code: int) -> str:
        if self._stopped:
            return "it was stopped"
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        said = next((line for line in reversed(self._lines) if line.strip()), "")
        return PREFIX.sub("", said) or f"it ended with status {code}"


def environment_of_child(own: Mapping[str, str]) -> dict[str, str]:
    """Without what is Ray's: its token above all. Ray's choice of GPUs stays."""
    return {k: text for k, text in own.items() if not k.startswith("RAY_") and k != "PYTHONBREAKPOINT"}
