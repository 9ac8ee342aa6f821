"""The command: output, errors, exit status, and what it does not import."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from engine.errors import InvalidInput, Unavailable
from server import arguments, cli, serve
from server.config import IceServer, ServerConfig
from tests.rigs.paths import ROOT
from tests.rigs.server.fake_device import FAKE_OPTIONS
from tests.rigs.waiting import LONG_S

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def psistream(*args: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "server.cli", *args]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT, timeout=timeout_s, check=False
    )


@contextmanager
def serving(*args: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A running server in its own process, and the lines that it printed."""
    command = [sys.executable, "-m", "server.cli", "serve", *FAKE_OPTIONS, "--port", "0", *args]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=ENVIRONMENT
    ) as process:
        try:
            assert process.stdout is not None
            yield process, [process.stdout.readline().rstrip() for _ in range(3)]
        finally:
            process.kill()


# ---- dispatch ----


def test_help_names_every_command_and_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    for args in ([], ["--help"], ["-h"], ["help"]):
        assert cli.main(args) == 0
        shown = capsys.readouterr().out
        assert all(f"  {name} " in shown for name in cli.COMMANDS)
        assert len(shown.splitlines()) < 24
        assert max(map(len, shown.splitlines())) < 80


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("psistream ")


def test_a_mistyped_command_is_met_with_the_near_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["srve"]) == 2
    assert "did you mean serve?" in capsys.readouterr().err
    assert cli.main(["dance"]) == 2
    assert "the commands are serve, play" in capsys.readouterr().err


def test_a_command_is_imported_only_when_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "late_command.py").write_text("def main(argv):\n    print(argv)\n    return 7\n")
    (tmp_path / "needy_command.py").write_text("import a_library_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(cli.COMMANDS, "train", cli.Subcommand("late_command:main", ""))
    assert cli.main(["train", "--steps", "3"]) == 7
    assert capsys.readouterr().out == "['--steps', '3']\n"
    monkeypatch.setitem(cli.COMMANDS, "train", cli.Subcommand("needy_command:main", ""))
    assert cli.main(["train"]) == 1
    assert "pip install 'psistream[train]'" in capsys.readouterr().err
    monkeypatch.setitem(cli.COMMANDS, "train", cli.Subcommand("server.nowhere:main", ""))
    assert cli.main(["train"]) == 1
    assert "not part of this installation" in capsys.readouterr().err


def test_errors_of_ours_are_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "failing_command.py").write_text(
        "from engine.errors import Unavailable\ndef main(argv):\n    raise Unavailable('no camera')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(cli.COMMANDS, "view", cli.Subcommand("failing_command:main", ""))
    assert cli.main(["view"]) == 1
    assert capsys.readouterr().err == "psistream view: no camera\n"


# ---- serve ----


def test_settings_come_from_options() -> None:
    options = """
        --host 0.0.0.0 --port 9 --backend fake --worker thread --mqtt off --max-sessions 2 --bitrate 700
        --ice-server stun:a:1 --ice-server turn:u:p@b:2 --allow-origin https://x.example --seed 3
    """
    settings = arguments.settings(arguments.parser().parse_args(options.split()))
    assert (settings.host, settings.port, settings.placement, settings.mqtt) == (
        "0.0.0.0",
        9,
        "thread",
        "off",
    )
    assert (settings.worker.backend, settings.worker.runtime.max_sessions) == ("fake", 2)
    assert settings.ice_servers == (IceServer("stun:a:1"), IceServer("turn:b:2", "u", "p"))
    assert settings.worker.media.bitrate_bps == 700_000
    assert arguments.settings(arguments.parser().parse_args([])).worker.media.bitrate_bps is None
    assert not settings.loopback


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--port 99999", "--port must be between"),
        ("--port 0x", "argument --port: must be a whole number, not '0x'"),
        ("--max-load lots", "argument --max-load: must be a number, not 'lots'"),
        ("--max-load 0", "^--max-load must be a number above 0"),
        ("--max-sessions 0", "^--max-sessions must be a whole number of at least 1"),
        ("--seed -1", "--seed must be between 0"),
        (f"--prompt {'a' * 3000}", "prompt is 3000 bytes long"),
        ("--ice-server http://x", "--ice-server must look like"),
        ("--bitrate 3", "--bitrate must be between"),
        ("--bitrate 0", "--bitrate must be between .* leave it out"),
        ("--allow-origin foo", "--allow-origin must look like https://video.example .* not 'foo'"),
        ("--allow-origin https://x.example/", "without a path"),
        ("--allow-origin https://X.example", "in lower case"),
        ("--allow-origin null", "--allow-origin must look like"),
        ("--max-viewers 0", "--max-viewers"),
    ],
)
def test_options_out_of_range_are_named(options: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        arguments.settings(arguments.parser().parse_args(options.split()))


@pytest.mark.parametrize("origin", ["*", "http://localhost:3000", "https://[::1]:8", "capacitor://localhost"])
def test_sites_are_named_as_browsers_do(origin: str) -> None:
    assert arguments.settings(arguments.parser().parse_args(["--allow-origin", origin])).origins == (origin,)


def test_loopback_hosts_are_recognised() -> None:
    hosts = {"127.0.0.1": True, "localhost": True, "::1": True, "0.0.0.0": False, "example.org": False}
    assert {host: ServerConfig(host=host).loopback for host in hosts} == hosts


def test_an_occupied_port_is_one_line_that_names_it() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(Unavailable, match=rf"port {port} is in use.*--port {port + 1}"),
            serve.bound("127.0.0.1", port),
        ):
            pass
        result = psistream("serve", "--backend", "fake", "--port", str(port))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert str(port) in result.stderr


def test_an_address_that_is_not_ours_is_one_line() -> None:
    with pytest.raises(InvalidInput, match=r"192\.0\.2\.77"), serve.bound("192.0.2.77", 0):
        pass


@pytest.fixture
def served(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run `psistream serve` in this process until it fails: exit status and output. This saves the time of
    imports."""

    def run(*args: str) -> tuple[int, str]:
        status = serve.main(["--port", "0", "--worker", "thread", *args])
        shown = capsys.readouterr()
        assert shown.out == ""
        return status, shown.err

    return run


def test_missing_weights_are_one_line(
    served: Callable[..., tuple[int, str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    status, told = served("--backend", "onnxruntime", "--model", str(tmp_path / "none"))
    assert (status, told.count("\n")) == (2, 1)
    assert str(tmp_path) in told
    assert not caplog.records, "the same in the log"


def test_corrupt_weights_are_one_line(served: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{ not json")
    status, told = served("--backend", "onnxruntime", "--model", str(tmp_path))
    assert (status, told.count("\n")) == (2, 1)
    assert "manifest" in told


def test_an_unknown_mqtt_setting_is_one_line(served: Callable[..., tuple[int, str]]) -> None:
    status, told = served("--backend", "fake", "--mqtt", "pigeon")
    assert (status, told.count("\n")) == (2, 1)
    assert "--mqtt must be" in told


def test_serve_prints_its_link_and_ends_cleanly_with_a_client_connected() -> None:
    with serving("--mqtt", "embedded:0") as (process, lines):
        assert lines[0].startswith("psistream is live at http://localhost:")
        assert "mqtt://127.0.0.1:" in lines[1]
        assert "psistream play http" in lines[2]
        port = int(lines[0].rpartition(":")[2])
        with closing(http.client.HTTPConnection("localhost", port)) as line:
            line.request("GET", "/readyz")  # kept open: it must not delay the end
            assert line.getresponse().status == 200
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=LONG_S)
        assert (process.returncode, out, err) == (0, "", "")


SLOW = """
import asyncio, sys
import server.http.app, server.worker.process, server.serve
async def start(self):
    print("loading", flush=True)
    await asyncio.sleep(60)
server.worker.process.ProcessWorker.start = start
sys.exit(server.serve.main(["--backend", "fake", "--port", "0", "--mqtt", "off"]))
"""


def test_a_signal_while_the_model_loads_ends_without_a_traceback() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SLOW],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=LONG_S)
        assert (process.returncode, err) == (0, "")


SERVED = """
import asyncio, sys
from server.config import ServerConfig, WorkerConfig
from server.http.app import create_app
async def main():
    app = create_app(ServerConfig(worker=WorkerConfig(backend="fake"), placement="thread"))
    async with app.router.lifespan_context(app):
        import server.serve, server.worker.process, engine.backends.ort
        heavy = ("torch", "transformers", "onnx", "scipy", "matplotlib")
        print([name for name in heavy if name in sys.modules])
asyncio.run(main())
"""


def test_serving_never_imports_torch() -> None:
    """Importing it would cost seconds at every start and gigabytes in every installation."""
    result = subprocess.run(
        [sys.executable, "-c", SERVED], capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT, check=True
    )
    assert result.stdout == "[]\n"
