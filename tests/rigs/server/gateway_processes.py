"""A cluster of processes on loopback: a directory, a worker and gateways; and a load balancer before these,
which knows TCP and no more."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence

import httpx

from benchmarks.chaos.processes import ServerProcess, wait_until
from benchmarks.network.ports import free_port
from tests.rigs.server.fake_device import FAKE_OPTIONS
from tests.rigs.waiting import LONG_S


class GatewayProcess(ServerProcess):
    def __init__(self, name: str, port: int, join: Sequence[str], options: Sequence[str]) -> None:
        mqtt = () if "--mqtt" in options else ("--mqtt", "off")
        super().__init__(name, ["serve", "--port", str(port), "--name", name, *join, *mqtt, *options])
        self.port = port

    @property
    def ready(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            url = f"http://127.0.0.1:{self.port}/v1/sessions/main"
            return httpx.get(url, timeout=5, trust_env=False, verify=False).is_success
        return False

    @property
    def viewers(self) -> int:
        told = httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=LONG_S, trust_env=False).json()
        return int(told["viewers"])


@contextlib.contextmanager
def gateway_processes(*names: str, options: Sequence[str] = ()) -> Iterator[dict[str, GatewayProcess]]:
    """Gateways with these names and options, each of which answers for session `main`."""
    directory = f"127.0.0.1:{free_port()}"
    join = ["--join", f"tcp://{directory}"]
    worker = ["worker", "--name", "w", *join, "--listen", f"127.0.0.1:{free_port()}", *FAKE_OPTIONS]
    gateways = {name: GatewayProcess(name, free_port(), join, options) for name in names}
    others = [
        ServerProcess("directory", ["cluster", "up", "--listen", directory]),
        ServerProcess("w", worker),
    ]
    with contextlib.ExitStack() as stack:
        processes = [*others, *gateways.values()]
        for process in processes:
            stack.callback(process.close)
            process.start()
        wait_until(lambda: all(gateway.ready for gateway in gateways.values()), processes)
        yield gateways


@contextlib.asynccontextmanager
async def tcp_balancer(ports: Sequence[int], seed: int = 0) -> AsyncIterator[str]:
    """Its URL. Each connection goes to one of these ports at random, or to another one if that refuses it."""
    dice = random.Random(seed)
    open_: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_.add(task)
        try:
            for port in dice.sample(list(ports), len(ports)):
                with contextlib.suppress(OSError):
                    there, back = await asyncio.open_connection("127.0.0.1", port)
                    await asyncio.gather(_copy(reader, back), _copy(there, writer))
                    break
        finally:
            open_.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        for task in list(open_):
            task.cancel()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def patient(http: httpx.AsyncClient, method: str, url: str, **more: object) -> httpx.Response:
    """The first answer other than 503, or than none: as a client does that waits for another gateway."""
    until_s = time.monotonic() + LONG_S
    while True:
        with contextlib.suppress(httpx.TransportError):
            answer = await http.request(method, url, **more)  # type: ignore[arg-type]
            if answer.status_code != 503 or time.monotonic() > until_s:
                return answer
        assert time.monotonic() < until_s, f"no gateway answers {method} {url}"
        await asyncio.sleep(0.05)
