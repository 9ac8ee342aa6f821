"""The `psistream` command: finds the subcommand and runs it. It imports only that one."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

from engine.errors import PsistreamError

OWN = ("engine", "export", "server", "clients", "benchmarks")


class Subcommand(NamedTuple):
    target: str  # module:function(argv) -> exit status
    about: str


COMMANDS = {
    "serve": Subcommand("server.serve:main", "run the server, then open http://localhost:8080"),
    "play": Subcommand(
        "clients.play.command:main", "steer from the terminal: arrow keys, / to type a prompt"
    ),
    "view": Subcommand("clients.view.command:main", "watch or record a running session"),
    "generate": Subcommand("engine.commands.generate:main", "make a video file, no server needed"),
    "replay": Subcommand("engine.commands.replay:main", "make a session's video again from its control log"),
    "bench": Subcommand("benchmarks.cli:main", "measure latency and speed"),
    "export": Subcommand("export.cli:main", "turn a trained model into ONNX graphs and TensorRT engines"),
    "train": Subcommand("engine.commands.train:main", "train the model"),
    "evaluate": Subcommand(
        "engine.commands.evaluate:main", "measure what a model does, on a world whose truth is known"
    ),
    "model": Subcommand("engine.commands.model_info:main", "tell a model's size, tokens, state and cost"),
    "convert": Subcommand("export.convert:main", "make a public checkpoint a folder for --weights"),
}
HELP = """\
psistream makes an endless video that you steer while you watch it.

  psistream serve

{commands}

psistream <command> --help tells more.
"""


def help_text() -> str:
    width = max(map(len, COMMANDS))
    return HELP.format(commands="\n".join(f"  {n:<{width}}  {c.about}" for n, c in COMMANDS.items()))


def main(argv: Sequence[str] | None = None) -> int:
    args = list(sys.argv[1:] if argv is None else argv)
    name = args[0] if args else "--help"
    if name in ("-h", "--help", "help"):
        print(help_text(), end="")
        return 0
    if name in ("-V", "--version"):
        from server.version import VERSION

        print(f"psistream {VERSION}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(COMMANDS)}"
        print(f"psistream: there is no command {name!r}; {hint}", file=sys.stderr)
        return 2
    try:
        return load(COMMANDS[name].target)(args[1:])
    except PsistreamError as error:
        print(f"psistream: {error.message}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if error.name is None:
            raise
        print(f"psistream: {missing(name, error.name)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def load(target: str) -> Callable[[Sequence[str]], int]:
    module, _, function = target.partition(":")
    return cast(Callable[[Sequence[str]], int], getattr(importlib.import_module(module), function))


def missing(command: str, module: str) -> str:
    """What to install, unless the missing module is one of our own packages."""
    if module.partition(".")[0] in OWN:
        return f"{command} is not part of this installation (there is no {module})"
    return f"{command} needs {module}, which is not installed: pip install 'psistream[{_extra(command)}]'"


def _extra(command: str) -> str:
    return {"export": "export", "train": "train"}.get(command, "torch")


if __name__ == "__main__":
    sys.exit(main())
