"""A steered session: controls with their receipts, its state, listeners. It is reached through a
Transport."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from clients.signalling import MOVED
from clients.steer.errors import Refused, SteerError, SteerTimeout
from clients.steer.lost import WITHIN_S, Losses, to_send_again
from clients.steer.messages import ControlReceipt, How, State, When
from clients.steer.transport import Kind, Transport, end, stay_connected

TIMEOUT_S = 30.0
TICK_S = 0.1
MOST_KEPT = 1024  # controls that may have to be sent again, as many as a server remembers
Listener = Callable[[Kind, dict[str, Any]], None]
By = Literal["auto", "mqtt", "http", "datachannel"]


class Sent:
    """A control that was sent, and its receipts as they come."""

    def __init__(self, control: dict[str, Any], now_s: float) -> None:
        self.control = control
        self.receipt: ControlReceipt | None = None  # the latest one
        self.sent_s = self.asked_s = now_s
        self.lost = False  # a restored server may not have it: it waits for an answer again
        self.replaced = False  # by a newer action, which must not arrive before it
        self._changed = asyncio.Event()

    @property
    def id(self) -> str:
        return str(self.control["id"])

    @property
    def settled(self) -> bool:
        """Whether no further receipt will arrive, unless the server loses what it has done."""
        return self.answered and self.receipt is not None and self.receipt.status != "received"

    @property
    def answered(self) -> bool:
        """Whether the server is known to have it."""
        return self.receipt is not None and not self.lost

    @property
    def frame(self) -> int | None:
        """The first frame that shows it, once that is known."""
        return self.receipt.frame if self.receipt is not None else None

    async def received(self, timeout_s: float = TIMEOUT_S) -> ControlReceipt:
        """Wait for the first receipt. Raises Refused, SteerTimeout."""
        return await self._wait(lambda: self.answered, "received", timeout_s)

    async def applied(self, timeout_s: float = TIMEOUT_S) -> ControlReceipt:
        """Wait until the video shows it; the receipt says from which segment and frame. Raises Refused,
        SteerTimeout."""
        return await self._wait(lambda: self.settled, "applied", timeout_s)

    def hear(self, receipt: ControlReceipt) -> None:
        if not self.settled:
            self.receipt, self.lost = receipt, False
            self._changed.set()

    async def _wait(self, true: Callable[[], bool], what: str, timeout_s: float) -> ControlReceipt:
        try:
            async with asyncio.timeout(timeout_s):
                while not true():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise SteerTimeout(
                f"{self.control['type']} was not {what} within {timeout_s:g} s: is the session paused, "
                "or watched by nobody, so that it sleeps?"
            ) from None
        assert self.receipt is not None
        if self.receipt.status == "rejected":
            raise Refused(self.receipt)
        return self.receipt


class SteeredSession:
    """`async with SteeredSession(transport) as session`; entering waits until the session is there, or raises
    SteerError. Controls return at once; their receipts can be awaited."""

    def __init__(self, transport: Transport) -> None:
        self.state = State()
        self.online = False
        self.ended: str | None = None  # why the session ended
        self._transport = transport
        self._sent: OrderedDict[str, Sent] = OrderedDict()
        self._losses = Losses()
        self._holds_until_s = -math.inf  # the server takes nothing until then
        self._listeners: list[Listener] = []
        self._there = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._name, self._count = secrets.token_hex(4), 0

    # ---- controls ----

    def prompt(
        self,
        text: str | Sequence[tuple[str, float]],
        *,
        how: How = "recondition",
        when: When = "next",
        transition_segments: int | None = None,
    ) -> Sent:
        """Show this: one text, or several with their weights."""
        fields: dict[str, Any] = {"how": how, "when": when}
        if isinstance(text, str):
            fields["text"] = text
        else:
            fields["prompts"] = [{"text": each, "weight": weight} for each, weight in text]
        if transition_segments is not None:
            fields["transition_segments"] = transition_segments
        return self.send("prompt", **fields)

    def action(self, action: str | None) -> Sent:
        """Hold "left", "right", "jump" or "idle" until the next action; None releases it."""
        return self.send("action", action=action)

    def pause(self) -> Sent:
        return self.send("pause")

    def resume(self) -> Sent:
        return self.send("resume")

    def reset(self, seed: int | None = None, *, when: When = "next") -> Sent:
        """Start again from the current prompt; another seed gives another world."""
        return self.send("reset", when=when, **({} if seed is None else {"seed": seed}))

    def rewind(self, seconds: float) -> Sent:
        """Go back to what was on the screen this many seconds of video ago."""
        return self.send("rewind", seconds=seconds)

    def send(self, kind: str, **fields: Any) -> Sent:
        """Any control of docs/protocol.md, by its type and fields."""
        self._count += 1
        control = {"id": f"{self._name}-{self._count}", "type": kind, **fields}
        if kind == "action":
            for older in self._sent.values():
                older.replaced |= older.control["type"] == "action"
        sent = Sent(control, self._now())
        self._sent[sent.id] = sent
        while len(self._sent) > MOST_KEPT:
            self._sent.popitem(last=False)
        if self._now() < self._holds_until_s:
            sent.asked_s = -math.inf  # it must not overtake what was refused before
        else:
            self._transport.post(control)
        return sent

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener(kind, message)` for every message, on the event loop. The result stops it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def check(self) -> None:
        """Raises SteerError once the connection was given up because the session or the server is gone."""
        for task in self._tasks:
            if task.done():
                task.result()

    # ---- life ----

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(stay_connected(self._transport, self._hear, self._set_online), name="steer"),
            asyncio.create_task(self._ask_again(), name="steer again"),
        ]
        there = asyncio.create_task(self._there.wait(), name="steer entering")
        try:
            await asyncio.wait([*self._tasks, there], return_when=asyncio.FIRST_COMPLETED)
            self.check()
        except BaseException:
            await end(*self._tasks)
            raise
        finally:
            there.cancel()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raises the error of a listener that failed, which ended the connection."""
        await self._flush()
        for failed in await end(*self._tasks):
            if error is None and not isinstance(failed, SteerError):
                raise failed

    async def _flush(self) -> None:
        """Give controls that were just sent time to be transmitted."""
        unanswered = [sent for sent in self._sent.values() if not sent.answered]
        for sent in unanswered[-8:]:
            try:
                await sent.received(0.5 if self.online else 0)
            except SteerError:
                continue

    async def _ask_again(self) -> None:
        """Resend controls that are not answered, with the same id, so there is no second effect."""
        while True:
            await asyncio.sleep(TICK_S)
            if self._now() < self._holds_until_s:
                continue
            for sent in self._open():
                waits = not sent.answered or self._transport.ask_again_s < 1.0
                if waits and self.online and self._now() - sent.asked_s > self._transport.ask_again_s:
                    self._repeat(sent)

    def _open(self) -> list[Sent]:
        """Controls that may be resent: those that the server already has, and those without a newer
        replacement."""
        waiting = [sent for sent in self._sent.values() if not sent.settled]
        return [sent for sent in waiting if sent.answered or not sent.replaced]

    def _repeat(self, sent: Sent) -> None:
        sent.asked_s = self._now()
        self._transport.post(sent.control)

    def _set_online(self, online: bool) -> None:
        back = online and not self.online
        self.online = online
        self._holds_until_s = -math.inf  # of another connection
        if back:
            for sent in self._open():
                if self._now() - sent.asked_s > TICK_S:
                    self._repeat(sent)
        self._tell("connection", {"online": online})

    def _hear(self, kind: Kind, message: dict[str, Any]) -> None:
        if kind == "state":
            self.state = State.read(message)
            self._there.set()
            self._holds_until_s = -math.inf
            if (lost := self._losses.news(message)) is not None:
                self._restored(lost)
        elif message.get("type") == "closed" and message.get("code") in MOVED:
            self._losses.ended(message)
            return
        elif message.get("type") == "closed":
            self.ended = str(message.get("message") or message.get("code") or "the session ended")
        elif (receipt := ControlReceipt.read(message)) is not None and (sent := self._sent.get(receipt.id)):
            self._take(sent, receipt)
        self._tell(kind, message)

    def _take(self, sent: Sent, receipt: ControlReceipt) -> None:
        """A control that is refused for now is kept, to be sent again: such as while the session waits for a
        place. The others wait with it, so that none overtakes an older one."""
        again_s, now_s = receipt.retry_after_s, self._now()
        if again_s is None or receipt.status != "rejected" or now_s - sent.sent_s > WITHIN_S:
            sent.hear(receipt)
        else:
            sent.asked_s = -math.inf
            self._holds_until_s = max(self._holds_until_s, now_s + again_s)

    def _restored(self, lost: range) -> None:
        """The server has lost these frames, and with them perhaps what they were to show."""
        again = to_send_again(self._sent.values(), lost, self._now())
        for sent in self._sent.values():
            sent.lost |= not sent.settled
        for sent in again:
            sent.lost = True
            self._repeat(sent)

    def _tell(self, kind: Kind, message: dict[str, Any]) -> None:
        for listener in list(self._listeners):
            listener(kind, message)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def connect(
    url: str = "http://localhost:8080",
    session: str | None = None,
    *,
    token: str | None = None,
    by: By = "auto",
) -> SteeredSession:
    """A session of the server at `url`: http(s)://host:port, a page's link with its token, or mqtt(s)://…

    `by` says how: "mqtt" (an HTTP server is asked where its broker is), "http" or "datachannel"; "auto" takes
    what the address says. Use it as `async with connect(…) as session`. Raises SteerError for an address that
    is none, entering raises it where there is no server or session."""
    from clients.steer.ways import transport_to

    return SteeredSession(transport_to(url, session, token, by))
