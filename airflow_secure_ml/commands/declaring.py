"""What a command is: its words, its arguments, and what runs it.

Declarations alone, imported whenever somebody asks for help: they import nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Argument(NamedTuple):
    """One argument: its flags or name, and what argparse takes besides."""

    flags: tuple[str, ...]
    options: Mapping[str, Any]


class Command(NamedTuple):
    """One command; `run` is `module.function` below `airflow_secure_ml.commands`."""

    name: str
    help: str
    run: str
    arguments: tuple[Argument, ...]


class Group(NamedTuple):
    """Commands below a word."""

    name: str
    help: str
    commands: tuple[Command, ...]


def arg(*flags: str, **options: Any) -> Argument:
    """Declare an argument."""
    return Argument(flags, options)


def command(name: str, help_text: str, run: str, *arguments: Argument) -> Command:
    """Declare a command; every one of them can print JSON."""
    return Command(name, help_text, run, (*arguments, JSON))


JSON = arg("--json", action="store_true", help="print JSON, for programs")
