"""The argument parser of all commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from engine.errors import InvalidInput

MOST_THREADS = 1024
GIVEN = "given_options"  # attribute of what was parsed


def whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r:.40}") from None


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r:.40}") from None


def threads(text: str) -> int:
    count = whole_number(text)
    if not 0 <= count <= MOST_THREADS:
        raise argparse.ArgumentTypeError(f"must be 0 (all) to {MOST_THREADS}, not {text:.40}")
    return count


def given(args: argparse.Namespace, option: str) -> bool:
    """Whether this option (its attribute's name) was on the command line. Defaults do not count, nor does
    what the environment says: it may be meant for other commands too."""
    return option in _given(args)


def check_belongs(args: argparse.Namespace, to: str, *options: str) -> None:
    """For options that mean nothing without another one, which was not given. Raises InvalidInput that names
    those that were."""
    if names := _named(args, options):
        it = "it" if len(names) == 1 else "them"
        verb = "belongs" if len(names) == 1 else "belong"
        raise InvalidInput(
            f"{_listed(names)} {verb} to {to}: give that too, or leave {it} out", field=names[0].strip("-")
        )


def check_unused(
    args: argparse.Namespace, beside: str, *options: str, instead: str = "leave {it} out"
) -> None:
    """For options that have no effect beside another one, which was given. Raises InvalidInput that names
    those that were, and says what to do `instead`, in which {it} stands for them."""
    if names := _named(args, options):
        verb, it = ("has", "it") if len(names) == 1 else ("have", "them")
        raise InvalidInput(
            f"{_listed(names)} {verb} no effect with {beside}: {instead.format(it=it)}",
            field=names[0].strip("-"),
        )


def _named(args: argparse.Namespace, options: Sequence[str]) -> list[str]:
    """Those of the options that were given, as they are written."""
    return [_given(args)[option] for option in options if given(args, option)]


def _given(args: argparse.Namespace) -> dict[str, str]:
    """What was on the command line: attribute's name → option."""
    return getattr(args, GIVEN, {})


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


class _Noting(argparse.Action):
    """Notes that its option was given."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        super().__call__(parser, namespace, values, option_string)
        if self.option_strings:
            setattr(namespace, GIVEN, {**_given(namespace), self.dest: self.option_strings[-1]})


class _Store(_Noting, argparse._StoreAction):
    pass


class _StoreTrue(_Noting, argparse._StoreTrueAction):
    pass


class _Append(_Noting, argparse._AppendAction):
    pass


ACTIONS = {None: _Store, "store": _Store, "store_true": _StoreTrue, "append": _Append}


class Parser(argparse.ArgumentParser):
    """Raises InvalidInput instead of ending the process. Its subparsers do the same."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, action in ACTIONS.items():
            self.register("action", name, action)
        self.register("type", int, whole_number)  # argparse says "invalid int value"
        self.register("type", float, number)

    def error(self, message: str) -> NoReturn:
        raise InvalidInput(f"{message} (see {self.prog} --help)")

    def print_help(self, file: Any = None) -> None:
        (file or sys.stdout).write(self.format_help())  # argparse's own ignores errors, even a full disk
