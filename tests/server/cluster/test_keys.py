"""The cluster's key is replaced while everything runs: who meets whom, with real connections."""

from __future__ import annotations

import asyncio
import signal
from itertools import pairwise, product
from pathlib import Path

import pytest

from engine.errors import Forbidden, InvalidInput
from server.cluster.messages import Watch
from server.keys import MAX_SECRETS, keys_of, read_secret
from tests.rigs.server.directory_rig import directing, member
from tests.rigs.server.port_rig import listening, remote
from tests.rigs.server.processes_rig import Cluster, cluster
from tests.rigs.waiting import LONG_S
from tests.server.worker.working import Heard

OLD, NEW = b"0f3a5c7e9b1d2468ace013579bdf8642", b"fedcba98765432100123456789abcdef"
FILES = {"old": OLD, "old, new": OLD + b"\n" + NEW, "new, old": NEW + b"\n" + OLD, "new": NEW}
ROUNDS = list(FILES)
PAIRS = list(product(ROUNDS, ROUNDS))


def meet(one: str, other: str) -> bool:
    """Each has the other's first key. That holds in each round and the next, whichever side is first."""
    firsts = [keys_of(FILES[each])[0] for each in (one, other)]
    return all(first in keys_of(FILES[each]) for first, each in zip(firsts, (other, one), strict=True))


def test_sides_of_two_rounds_that_follow_each_other_meet() -> None:
    together = {frozenset(pair) for pair in pairwise(ROUNDS)}
    assert all(meet(*pair) for pair in PAIRS if len({*pair}) == 1 or frozenset(pair) in together)
    assert not meet("old", "new")
    assert not meet("old", "new, old")  # one round was left out


@pytest.mark.parametrize(("listens", "visits"), PAIRS)
async def test_a_gateway_and_a_worker(listens: str, visits: str) -> None:
    async with listening(FILES[listens]) as (host, port):
        worker = remote(port, Heard().hear, FILES[visits])
        if meet(listens, visits):
            await worker.start()
            assert host.mail.gateways
            await worker.close()
        else:
            with pytest.raises(Forbidden, match="another key"):
                await worker.start()
            assert not host.mail.gateways


@pytest.mark.parametrize(("listens", "visits"), PAIRS)
async def test_a_member_and_the_directory(listens: str, visits: str) -> None:
    async with directing(key=FILES[listens]) as (_, port), member(port, Watch(), key=FILES[visits]) as side:
        async with asyncio.timeout(LONG_S):
            if meet(listens, visits):
                assert (await side.joined()).gateways == ()
            else:
                with pytest.raises(Forbidden, match="another key"):
                    await side.joined()


# ---- the file ----


def secret(folder: Path, text: str) -> bytes:
    file = folder / "cluster.key"
    file.write_text(text)
    file.chmod(0o600)
    return read_secret(file, "--key-file")


def test_a_file_may_have_several_keys(tmp_path: Path) -> None:
    lines = f"# the new one, since May\r\n{NEW.decode()}\r\n\n  {OLD.decode()}  \n"
    assert keys_of(secret(tmp_path, lines)) == [NEW, OLD]
    assert keys_of(secret(tmp_path, OLD.decode())) == [OLD]
    assert keys_of(b"") == [b""]  # loopback


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "contains no key: write one a line"),
        ("# nothing\n\n", "contains no key: write one a line"),
        (f"{OLD.decode()}\n# weak:\nhunter2\n", "line 3: the key is too easy to guess"),
        (f"g1 {OLD.decode()}\n", "line 1: the key may contain only ASCII letters, digits and punctuation"),
        (f"{OLD.decode()}\n\n{NEW.decode()}é\n", "line 3: the key may contain only ASCII"),
        (f"{OLD.decode()}\n{NEW.decode()}\n{OLD.decode()}\n", "line 3: this is the key of line 1 again"),
        ("".join(f"{n:032x}{OLD.decode()}\n" for n in range(9)), f"may have {MAX_SECRETS} keys, not 9"),
    ],
)
def test_a_line_that_is_no_key_is_refused_by_its_number(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told) as refused:
        secret(tmp_path, text)
    assert refused.value.message.startswith("--key-file: ")
    assert refused.value.field == "key_file"
    for shown in ("hunter2", OLD.decode(), NEW.decode()):
        assert shown not in refused.value.message


# ---- all of it ----


@pytest.mark.slow
async def test_the_key_is_replaced_while_a_session_plays(tmp_path: Path) -> None:
    """Three rounds of restarts, part after part. All the time both gateways answer about the session, each
    control takes effect, and in the end the old key opens nothing."""
    async with cluster(tmp_path) as there:
        there.key.write_bytes(FILES["old"])
        await there.up()
        for name in ("w1", "w2"):
            await there.worker(name)
        for name in ("g1", "g2"):
            await there.gateway(name)
        session = await there.open("g1")
        for round_ in ROUNDS[1:]:
            there.key.write_bytes(FILES[round_])
            await there.end("directory")
            await there.up()
            await plays(there, session, f"{round_}: directory")
            for name in ("w1", "w2"):
                await drained(there, f"h-{name}")
                await there.end(name)
                await there.worker(name)
                await there.command("take-back", f"h-{name}")
                await plays(there, session, f"{round_}: {name}")
            for name in ("g1", "g2"):
                await there.end(name, signal.SIGTERM)
                await there.gateway(name)
                await plays(there, session, f"{round_}: {name}")
        there.key.write_bytes(FILES["old"])
        assert "another key" in await there.command("status")


async def drained(there: Cluster, host: str) -> None:
    """Once the directory, which has just started, knows its workers."""
    async with asyncio.timeout(LONG_S):
        while await there.command("drain", host) != f"{host} is drained\n":  # noqa: ASYNC110
            await asyncio.sleep(0.2)


async def plays(there: Cluster, session: str, text: str) -> None:
    """It shows a new prompt, which both gateways tell: one has the session, the other passes that on."""
    async with asyncio.timeout(LONG_S):
        for number, gateway in enumerate(("g1", "g2")):
            control = {"type": "prompt", "text": f"{text} {number}", "id": f"{text} {number}"}
            await there.answered(gateway, "POST", f"/v1/sessions/{session}/controls", json=control)
            for each in ("g1", "g2"):
                while True:
                    shown = await there.answered(each, "GET", f"/v1/sessions/{session}")
                    if shown["prompt"] == control["text"]:
                        break
                    await asyncio.sleep(0.1)
