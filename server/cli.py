"""The `psistream` command: finds the subcommand and runs it. It imports no other subcommand."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

from engine.commandline.runner import BAD_INPUT, OK, run


class Subcommand(NamedTuple):
    target: str  # module:function(argv) -> exit status
    about: str


COMMANDS = {
    "serve": Subcommand("server.serve:main", "run the server, then open http://localhost:8080"),
    "play": Subcommand(
        "clients.play.command:main", "steer from the terminal: arrow keys, / to type a prompt"
    ),
    "view": Subcommand("clients.view.command:main", "watch or record a running session"),
    "worker": Subcommand("server.cluster.worker:main", "run a model for servers that connect to it"),
    "cluster": Subcommand(
        "server.cluster.command:main", "let several servers and many workers find each other"
    ),
    "workers": Subcommand("clients.workers:main", "list a server's workers, or drain one of them"),
    "saved": Subcommand("server.gateway.storage.command:main", "list what --snapshots keeps, or remove it"),
    "generate": Subcommand("engine.commands.generate:main", "make a video file without a server"),
    "replay": Subcommand("engine.commands.replay:main", "make a session's video again from its control log"),
    "doctor": Subcommand("server.doctor.command:main", "check this machine and its network for serve"),
    "bench": Subcommand("benchmarks.cli:main", "measure latency, throughput and stability"),
    "export": Subcommand("export.cli:main", "turn a trained model into ONNX graphs and TensorRT engines"),
    "train": Subcommand("engine.commands.train:main", "train the model"),
    "evaluate": Subcommand(
        "engine.commands.evaluate:main", "evaluate a model against a world whose ground truth is known"
    ),
    "model": Subcommand("engine.commands.model_info:main", "show a model's size, tokens, state and cost"),
    "convert": Subcommand("export.convert:main", "convert a public checkpoint into a folder for --weights"),
}
HELP = """\
psistream generates an endless video that you steer while you watch it.

  psistream serve

{commands}

psistream <command> --help shows its options.
"""


def help_text() -> str:
    width = max(map(len, COMMANDS))
    return HELP.format(commands="\n".join(f"  {n:<{width}}  {c.about}" for n, c in COMMANDS.items()))


def main(argv: Sequence[str] | None = None) -> int:
    args = list(sys.argv[1:] if argv is None else argv)
    name = args[0] if args else "--help"
    if name in ("-h", "--help", "help"):
        return run("psistream", lambda: _print(help_text()))
    if name in ("-V", "--version"):
        from server.version import VERSION

        return run("psistream", lambda: _print(f"psistream {VERSION}\n"))
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(COMMANDS)}"
        print(f"psistream: unknown command {name!r}; {hint}", file=sys.stderr)
        return BAD_INPUT
    return run(f"psistream {name}", lambda: load(COMMANDS[name].target)(args[1:]))


def _print(text: str) -> int:
    print(text, end="")
    return OK


def load(target: str) -> Callable[[Sequence[str]], int]:
    module, _, function = target.partition(":")
    return cast(Callable[[Sequence[str]], int], getattr(importlib.import_module(module), function))


if __name__ == "__main__":
    sys.exit(main())
