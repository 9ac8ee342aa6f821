"""`psistream doctor`: checks this machine and its network for `psistream serve` with the same options.

It prints one line per check and sets the exit status. It closes whatever it opens and changes nothing.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence

from engine.errors import InvalidInput
from server.arguments import parser as serve_parser
from server.arguments import settings
from server.config import ServerConfig
from server.doctor import cluster, machine, network
from server.doctor.findings import Finding, as_json, bad, in_colour, lines
from server.log_format import set_up


async def checks(config: ServerConfig) -> AsyncIterator[Finding]:
    yield machine.python()
    for finding in machine.libraries():
        yield finding
    yield machine.clock()
    yield machine.gpu()
    if config.placement != "remote":  # otherwise the workers' machines have them
        yield await asyncio.to_thread(machine.model, config)
        for finding in await asyncio.to_thread(lambda: list(machine.encoders(config.worker.media))):
            yield finding
    async for finding in cluster.others(config):
        yield finding
    for finding in network.ports(config):
        yield finding
    async for finding in network.udp(config):
        yield finding
    async for finding in network.ice_servers(config):
        yield finding
    yield await network.broker(config)


async def examine(config: ServerConfig) -> list[Finding]:
    return [finding async for finding in checks(config)]


def main(argv: Sequence[str] | None = None) -> int:
    """0 if all checks pass, 1 if one fails, 2 for options that `serve` would refuse."""
    p = serve_parser()
    p.prog = "psistream doctor"
    p.description = "Check this machine and its network for `psistream serve` with the same options."
    p.add_argument("--json", action="store_true", help="print the findings as JSON")
    args = p.parse_args(argv)
    try:
        config = settings(args)
    except InvalidInput as error:
        print("\n".join(lines([bad("options", error.message, "correct the option")], colour=in_colour())))
        return 2
    set_up("text", "CRITICAL")  # what is wrong is a finding
    findings = asyncio.run(examine(config))
    shown = as_json(findings)
    print(json.dumps(shown, indent=1) if args.json else "\n".join(lines(findings, colour=in_colour())))
    return 0 if shown["good"] else 1


if __name__ == "__main__":
    sys.exit(main())
