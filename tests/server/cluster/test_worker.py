"""The options of `psistream worker`, and those of `serve` that name workers elsewhere."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from benchmarks.network.ports import free_port
from engine.errors import InvalidInput, Unavailable
from server import arguments, cli
from server.cluster import gateway
from server.cluster import worker as command
from server.cluster.checks import check_gateway_name
from server.cluster.operating import ask
from server.worker.hosting.options import worker_config
from server.worker.remote import WorkerAddress
from tests.rigs.server.port_rig import remote


def test_mistakes_about_a_worker_that_listens_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "weak.key").write_text("secret\n")
    key = tmp_path / "strong.key"
    key.write_text("0123456789abcdeffedcba9876543210\n")
    key.chmod(0o600)
    for options, told in {
        "--listen 7070": "--listen must look like 10.0.0.7:7070",
        "--listen 0.0.0.0:7070": "give --key-file",
        f"--listen 127.0.0.1:0 --key-file {tmp_path}/weak.key": "needs 128 bits",
        f"--listen 127.0.0.1:0 --key-file {tmp_path}/none.key": "there is no file",
        "--listen 127.0.0.1:0 --tls-cert c.pem": "belong together",
        "--listen 127.0.0.1:0 --tls-cert c.pem --tls-key k.pem": "cannot read c.pem",
        "--listen 127.0.0.1:0 --max-sessions 0": "--max-sessions must be",
        "--listen 127.0.0.1:0 --max-gateways 0": "--max-gateways must be 1 to 256",
        "--listen 127.0.0.1:0 --join 10.0.0.1:7700": "--join must be tcp://HOST:PORT or tls://HOST:PORT",
        "--listen 127.0.0.1:0 --join tcp://10.0.0.1:7700": "give --advertise",
        "--listen 127.0.0.1:0 --join tcp://127.0.0.1:1 --name W_1": "a worker's --name may have",
        "--listen 127.0.0.1:0 --join tcp://127.0.0.1:1 --advertise here": "--advertise must look like",
        "--listen 127.0.0.1:0 --join tcp://127.0.0.1:1 --name=": "a worker's --name may have",
        "--listen 127.0.0.1:0 --join tcp://127.0.0.1:1 --on-host=": "--on-host must have",
        "--listen 127.0.0.1:0 --join tls://127.0.0.1:1 --join-ca none.pem": "--join-ca: cannot read none.pem",
        f"--listen 127.0.0.1:0 --join tls://127.0.0.1:1 --join-ca {key}": "strong.key has no certificate",
        "--listen 127.0.0.1:0 --on-host h1": "--on-host belongs to --join",
        "--listen 127.0.0.1:0 --name w1": "--name belongs to --join",
        f"--listen 0.0.0.0:0 --key-file {key} --join tcp://10.0.0.1:7700": "give --advertise",
    }.items():
        assert cli.main(["worker", "--backend", "fake", *options.split()]) == 2, options
        shown = capsys.readouterr().err
        assert told in shown
        assert len(shown.splitlines()) == 1


def test_workers_elsewhere_are_named_by_their_addresses(tmp_path: Path) -> None:
    key = tmp_path / "worker.key"
    key.write_text("# of all workers\n0123456789abcdeffedcba9876543210\n")
    where = ["--worker", "tcp://10.0.0.7:7070", "--worker", "tls://[fd00::7]:7071"]
    settings = arguments.settings(arguments.parser().parse_args([*where, "--worker-key-file", str(key)]))
    assert (settings.placement, settings.workers) == ("remote", 2)
    assert settings.remotes == ("tcp://10.0.0.7:7070", "tls://[fd00::7]:7071")
    assert settings.worker_key == b"0123456789abcdeffedcba9876543210"
    assert "0123" not in repr(settings)
    assert settings.keeps_spare is False
    for wrong in (
        ["--worker-key-file", str(key)],  # was ignored, and a path that is wrong went unnoticed
        ["--worker-ca", "ca.pem"],
        [*where, "--worker-ca", "none.pem"],  # was "No such file or directory", without the option
        [*where, "--worker-ca", str(key)],
        ["--worker", "gpu0"],
        ["--worker", "tcp://a:0"],
        [*where, "--workers", "2"],
    ):
        with pytest.raises(InvalidInput, match="worker"):
            arguments.settings(arguments.parser().parse_args(wrong))


def test_a_gateway_that_joins_needs_no_workers_named(tmp_path: Path) -> None:
    key = tmp_path / "cluster.key"
    key.write_text("0123456789abcdeffedcba9876543210\n")
    key.chmod(0o600)
    join = ["--join", "tcp://10.0.0.1:7700", "--join-key-file", str(key), "--host", "10.0.0.5"]
    settings = arguments.settings(arguments.parser().parse_args([*join, "--name", "g1"]))
    assert (settings.placement, settings.join, settings.name) == ("remote", "tcp://10.0.0.1:7700", "g1")
    assert settings.worker_key == b"0123456789abcdeffedcba9876543210"
    assert settings.advertise == ""
    assert gateway.advertised(settings, 8081).advertise == "http://10.0.0.5:8081"
    named = [*join, "--advertise", "http://10.0.0.5:8080/"]
    assert arguments.settings(arguments.parser().parse_args(named)).advertise == "http://10.0.0.5:8080"
    for wrong, told in {
        "--worker tcp://10.0.0.7:7070": "leave out --worker and --workers",
        "--workers 2": "leave out --worker and --workers",
        "--name G1": "a gateway's --name",
        "--name g-1": "a gateway's --name",
        "--name main": "which 'main' cannot: give a letter",  # its sessions looked like copies of `main`
        "--advertise 10.0.0.5:8080": "--advertise must be",
        "--node stage": "a gateway's node is its --name",
        "--host 0.0.0.0": "give --advertise",
        "--host 127.0.0.1": "give --advertise",
        "--name=": "a gateway's --name",
        "--worker-key-file k": "--worker-key-file has no effect with --join: use --join-key-file",
        "--worker-ca ca.pem": "--worker-ca has no effect with --join: use --join-ca",
        "--join-ca none.pem": "--join-ca: cannot read none.pem",
        "--join 10.0.0.1": "--join must be tcp://HOST:PORT or tls://HOST:PORT",
    }.items():
        with pytest.raises(InvalidInput, match=told):
            arguments.settings(arguments.parser().parse_args([*join, *wrong.split()]))
    with pytest.raises(InvalidInput, match="--name belongs to --join: give that too, or leave it out"):
        arguments.settings(arguments.parser().parse_args(["--name", "g1"]))


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("node-7.example.com", "e7examplecom"),
        ("7", "g7"),
        ("Kiste", "kiste"),
        ("ü", "g"),
        ("", "g"),
        ("Main", "gmain"),
    ],
)
def test_a_gateways_name_comes_from_its_hosts(host: str, name: str) -> None:
    made = gateway.default_name(host)
    assert made.endswith(name[-8:])
    check_gateway_name(made)


def test_a_worker_takes_the_options_of_its_model_and_video_that_serve_takes(tmp_path: Path) -> None:
    options = ["--backend", "fake", "--codecs", "h264,vp8", "--h264", "software", "--bitrate", "700"]
    options += ["--max-sessions", "3", "--max-load", "2", "--video", str(tmp_path / "clip.mp4")]
    here = worker_config(command.parser().parse_args(["--listen", "127.0.0.1:0", *options]))
    assert here == arguments.settings(arguments.parser().parse_args(options)).worker
    assert (here.media.codecs, here.media.hardware, here.video) == (
        ("vp8", "h264"),
        False,
        tmp_path / "clip.mp4",
    )


@pytest.mark.parametrize("command", ["worker --backend fake", "cluster up"])
async def test_what_serves_runs_on_if_nobody_reads_what_it_prints(command: str) -> None:
    """A worker ended silently with status 1."""
    port = free_port()
    reading, writing = os.pipe()
    os.close(reading)
    words = ["-m", "server.cli", *command.split(), "--listen", f"127.0.0.1:{port}"]
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=writing)
    os.close(writing)
    ended = asyncio.create_task(process.wait())
    try:
        while not await answers(command, port):
            assert not ended.done(), process.returncode
            await asyncio.sleep(0.1)
    finally:
        if not ended.done():
            process.terminate()
    assert await ended == 0


async def answers(command: str, port: int) -> bool:
    """Whether it has started."""
    worker = remote(port, lambda event: None, key=b"")
    try:
        if command == "cluster up":
            await ask("status", WorkerAddress("127.0.0.1", port), b"", None)
        else:
            await worker.start()
    except Unavailable:
        return False
    finally:
        await worker.close()
    return True
