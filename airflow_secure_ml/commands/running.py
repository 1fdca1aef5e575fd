"""Run one command: its result is printed, its error becomes a message and an exit status."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from airflow_secure_ml.errors import (
    ConfigurationError,
    ManifestMismatchError,
    SecureMLError,
    ServiceError,
)

DONE, REFUSED, WRONG_USE, OTHER_SYSTEM, INTERRUPTED = 0, 1, 2, 3, 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a command has to say.

    Attributes:
        data: For programs; plain JSON values.
        lines: For people.
        status: The exit status.
        beside: Whether standard output carries data, so that this goes to standard error.
    """

    data: Mapping[str, Any] | Sequence[Any]
    lines: Sequence[str]
    status: int = DONE
    beside: bool = False


def run_command(run: str, parsed: argparse.Namespace) -> int:
    """Run `module.function`; returns the exit status."""
    from airflow_secure_ml.commands.session import Session

    _leave_no_core_dump()
    module, _, function = run.partition(".")
    act = getattr(importlib.import_module(f"airflow_secure_ml.commands.{module}"), function)
    try:
        with Session() as session:
            result: Result = act(parsed, session)
    except SecureMLError as error:
        return _fail(error, error.why, _status(error), as_json=parsed.json)
    except FileNotFoundError as error:
        missing = ConfigurationError(f"{error.filename}: expected a file, found nothing")
        return _fail(missing, missing.why, WRONG_USE, as_json=parsed.json)
    except BrokenPipeError:
        # Who read us stopped; there is nobody to tell, and Python would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return OTHER_SYSTEM
    except KeyboardInterrupt:
        return INTERRUPTED
    _say(result, sys.stderr if result.beside else sys.stdout, as_json=parsed.json)
    return result.status


def _leave_no_core_dump() -> None:
    # A dump would hold keys. 1 and not 0: only that also keeps it from a program that takes dumps.
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (1 if hard else 0, hard))


def _status(error: SecureMLError) -> int:
    if isinstance(error, ConfigurationError):
        return WRONG_USE
    return OTHER_SYSTEM if isinstance(error, ServiceError) else REFUSED


def _say(result: Result, stream: TextIO, *, as_json: bool) -> None:
    if as_json:
        stream.write(json.dumps(result.data, indent=1, sort_keys=True) + "\n")
    else:
        stream.writelines(f"{_plain(line)}\n" for line in result.lines)
    stream.flush()


def _fail(error: SecureMLError, why: str, status: int, *, as_json: bool) -> int:
    if as_json:
        record: dict[str, Any] = {
            "error": type(error).__name__,
            "why": why,
            "message": str(error),
            "status": status,
        }
        if isinstance(error, ManifestMismatchError):
            record |= {name: list(getattr(error, name)) for name in ("added", "missing", "changed")}
        sys.stderr.write(json.dumps(record, indent=1, sort_keys=True) + "\n")
    else:
        sys.stderr.write(f"secure-ml: {_plain(str(error))}\n")
    return status


def _plain(text: str) -> str:
    # A name in a file or an event could hold an escape sequence that rewrites the terminal.
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text
    )
