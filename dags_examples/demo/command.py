"""A demo as a command: one at a time in its folder, ends on Ctrl-C with nothing left running.

On a terminal what it started stays up until Ctrl-C; without one it stops at once. Exit status 0:
all came out as expected. 1: it did not. 130: it was stopped.
"""

from __future__ import annotations

import argparse
import fcntl
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

from dags_examples.demo.airflow_api import NoAnswerError
from dags_examples.demo.airflow_process import RunningAirflow
from dags_examples.demo.kept_programs import ServerFailedError
from dags_examples.demo.progress import Progress
from dags_examples.demo.summary import Summary

ROOT = Path(__file__).resolve().parents[2]
PAGE = "/plugin/security-audit"
USER = "admin"
POLL_S = 0.5

# Starts what it needs in a folder, leaving each thing to the stack to stop, and says what came out.
Demo = Callable[[Path, Progress, ExitStack], tuple[Summary, RunningAirflow]]


class StoppedError(Exception):
    """Somebody wants it to stop."""


def run_command(
    description: str, default: Path, demo: Demo, arguments: Sequence[str] | None
) -> int:
    """Run a demo from its command line.

    Args:
        description: What it does, in a line.
        default: Where everything of it lies unless `--place` says otherwise.
        demo: What to run.
        arguments: Of the command; None: this process's.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--place", type=Path, default=default, help="where everything lies")
    place = parser.parse_args(arguments).place.resolve()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        with _only_one(place):
            return _run(place, demo)
    except (StoppedError, KeyboardInterrupt):
        print("\nstopped")
        return 130
    except (ServerFailedError, NoAnswerError) as error:
        print(f"\nthe demo could not finish: {error}", file=sys.stderr)
        return 1


def _run(place: Path, demo: Demo) -> int:
    began_s, progress = time.monotonic(), Progress()
    with ExitStack() as stack:
        try:
            summary, airflow = demo(place, progress, stack)
            _print(summary, airflow, time.monotonic() - began_s)
            if sys.stdin.isatty() and sys.stdout.isatty():
                _stay(airflow)
        finally:
            # A second Ctrl-C must not leave half of it running.
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            with progress.step("stopping"):
                stack.close()
    return 1 if summary.problems else 0


def _stop(number: int, frame: object) -> NoReturn:
    raise StoppedError


@contextmanager
def _only_one(place: Path) -> Iterator[None]:
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServerFailedError(f"another demo runs in {place}; stop it first") from None
        yield


def _print(summary: Summary, airflow: RunningAirflow, seconds: float) -> None:
    print(f"\nWhat came out, after {seconds:.0f} s:\n")
    for line in summary.lines:
        print(f"  {line}")
    if summary.problems:
        print("\nNOT AS EXPECTED:\n")
        for problem in summary.problems:
            print(f"  {problem}")
    else:
        print("\nEverything came out as it should.")
    print(f"\n  page      {airflow.url}{PAGE}")
    print(f"  user      {USER}\n  password  {airflow.passwords[USER]}\n", flush=True)


def _stay(airflow: RunningAirflow) -> None:
    print("Airflow stays up; Ctrl-C stops it.", flush=True)
    try:
        while True:
            airflow.check()
            time.sleep(POLL_S)
    except (KeyboardInterrupt, StoppedError):
        print(flush=True)
