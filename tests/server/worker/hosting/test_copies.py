"""What a worker tells its gateways of copies of a session elsewhere, and of sessions that were closed."""

from __future__ import annotations

import time

from engine.types import Control, OpenSession, Prompt, Receipt, Rewind, SessionClosed
from server.worker.base import Applied, Order, RestoreSession
from server.worker.epochs import CLOSED, copied
from server.worker.hosting.host import Host
from server.worker.messages.commands import Command, SetViewers, SubmitControl
from server.worker.messages.holding import Claimed, ClaimSession, EndCopy, Fenced
from server.worker.remote import RemoteWorker
from tests.rigs.server.port_rig import listening, remote
from tests.rigs.waiting import until
from tests.server.worker.working import Heard

OPENING = OpenSession("s", "a red cat", 1)


async def opened(host: Host, port: int) -> tuple[RemoteWorker, Heard]:
    """A gateway that has opened session `s`."""
    heard = Heard()
    worker = remote(port, heard.hear)
    await worker.start()
    worker.send(OPENING)
    await until(lambda: (lease := host.mail.leases.get("s")) is not None and lease.info is not None, "s")
    return worker, heard


async def test_all_gateways_are_told_who_holds_what() -> None:
    early, late = Heard(), Heard()
    async with listening() as (host, port):
        other, third = remote(port, early.hear), remote(port, late.hear)
        await other.start()
        first, heard = await opened(host, port)
        await until(lambda: Fenced("s", 1) in early, "word of the opening")
        await third.start()
        assert (third.held, third.orphans) == ((Fenced("s", 1),), ())
        other.send(ClaimSession("s", 2))
        await until(lambda: Fenced("s", 2) in late, "word of the claim")
        await until(lambda: Fenced("s", 2) in heard, "word of the loss")
        third.send(RestoreSession(OPENING, (), epoch=copied(2)))
        await until(lambda: Fenced("s", copied(2)) in heard, "word of the next copy")
        for worker in (first, other, third):
            await worker.close()


async def test_an_older_copy_is_ended_whoever_holds_it_and_a_newer_one_is_not() -> None:
    others = Heard()
    async with listening() as (host, port):
        first, heard = await opened(host, port)
        second = remote(port, others.hear)
        await second.start()
        second.send(EndCopy("s", 1))
        second.send(ClaimSession("s", 1))
        await until(lambda: Fenced("s", 1) in others, "the answer to what was sent later")
        assert host.mail.leases.get("s") is not None
        second.send(EndCopy("s", copied(1)))
        await until(lambda: Fenced("s", copied(1), elsewhere=True) in heard, "word of it")
        await until(lambda: host.mail.leases.get("s") is None, "its end")
        second.send(RestoreSession(OPENING, (), epoch=copied(1)))  # only what is closed is remembered
        await until(lambda: host.mail.leases.get("s") is not None, "another copy")
        await first.close()
        await second.close()


async def test_what_is_closed_is_told_and_refused_from_then_on() -> None:
    others, late = Heard(), Heard()
    async with listening() as (host, port):
        first, heard = await opened(host, port)
        second, third = remote(port, others.hear), remote(port, late.hear)
        await second.start()
        second.send(EndCopy("s", CLOSED))
        await until(lambda: Fenced("s", CLOSED) in heard, "word of it")
        await until(lambda: host.mail.leases.get("s") is None, "its end")
        await third.start()
        await until(lambda: Fenced("s", CLOSED) in late, "word of what was closed before")
        assert third.held == ()
        third.send(RestoreSession(OPENING, (), epoch=copied(copied(1))))
        await until(lambda: late.count(Fenced("s", CLOSED)) == 2, "refusal")
        assert host.mail.leases.get("s") is None
        for worker in (first, second, third):
            await worker.close()


async def test_who_closes_its_own_session_is_answered_and_the_others_are_not_bothered() -> None:
    others = Heard()
    async with listening() as (host, port):
        first, heard = await opened(host, port)
        second = remote(port, others.hear)
        await second.start()
        first.send(EndCopy("s", CLOSED))
        await until(
            lambda: any(isinstance(e, SessionClosed) and e.code == "closed" for e in heard), "its end"
        )
        second.send(ClaimSession("s", 2))
        await until(lambda: any(isinstance(e, SessionClosed) for e in others), "the answer")
        assert not [e for e in others if isinstance(e, Fenced)]
        await first.close()
        await second.close()


async def test_who_opens_what_it_has_just_claimed_is_told_that_it_has_it() -> None:
    """A restarted gateway opened `main`, was refused on account of its own claim, and tried for ever."""
    others = Heard()
    async with listening() as (host, port):
        first, _ = await opened(host, port)
        second = remote(port, others.hear)
        await second.start()
        second.send(ClaimSession("s", 2))
        second.send(OPENING)
        await until(lambda: len([e for e in others if isinstance(e, Claimed)]) == 2, "both answers")
        await first.close()
        await second.close()


async def test_a_worker_with_many_sessions_that_nobody_holds_can_be_reached() -> None:
    """Its welcome was larger than what a stranger may send, though both had proved that they have the key."""
    async with listening() as (host, port):
        for number in range(3000):
            host.mail.leases.open(f"a-session-{number}", "gone", 1, time.monotonic())
        host.mail.leases.gone("gone")
        worker = remote(port, Heard().hear)
        await worker.start()
        assert len(worker.orphans) == 3000
        await worker.close()
        for lease in host.mail.leases:
            host.mail.leases.end(lease.session)


async def test_a_control_that_is_refused_does_not_end_the_session_that_is_restored_with_it() -> None:
    """Its gateway had not been told yet when the session's last worker was lost."""
    controls = [Control("c1", Rewind(0.0)), Control("c2", Prompt("a blue dog"))]
    heard = Heard()
    async with listening() as (_, port):
        worker = remote(port, heard.hear)
        await worker.start()
        then: list[Command] = [SetViewers("s", {"vp8": 1})]
        then += [SubmitControl("s", control) for control in controls]
        worker.send(RestoreSession(OPENING, tuple(then), epoch=copied(1)))
        await until(lambda: any(isinstance(e, Applied) and e.receipt.id == "c2" for e in heard), "c2")
        refused = [e for e in heard if isinstance(e, Receipt) and e.status == "rejected"]
        assert [(e.session, e.id, e.code) for e in refused] == [("s", "c1", "invalid")]
        assert not [e for e in heard if isinstance(e, SessionClosed)]
        await worker.close()


async def test_a_copy_that_ends_by_itself_at_that_moment_does_not_end_the_next_one() -> None:
    """Its end let the next copy begin before the order that closes the older one was given."""
    async with listening() as (host, port):
        worker, _ = await opened(host, port)
        given, orders, lock = list[str](), host._orders, host.mail.lock
        assert orders is not None
        put = orders.put

        def record(order: Order) -> bool:
            given.append(type(order).__name__)
            return put(order)

        class Lock:
            """When it is free, somebody else has the next turn."""

            def __enter__(self) -> None:
                lock.acquire()

            def __exit__(self, *exc: object) -> None:
                lock.release()
                if "s" in host.mail.waiting and "RestoreSession" not in given:
                    host.mail.emit(SessionClosed("s", "backend", "it failed"))

        orders.put = record  # type: ignore[method-assign]
        host.mail.lock = Lock()  # type: ignore[assignment]
        worker.send(RestoreSession(OpenSession("s", "a blue dog", 2), (), epoch=5))
        await until(lambda: "RestoreSession" in given, "the next copy")
        assert given[:2] == ["CloseSession", "RestoreSession"]
        await worker.close()
