"""Programs that run until told to stop, and never longer than the process that wanted them.

The keeper is between: it ends them, children included, when this process is gone, however it went.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dags_examples.demo import keeper

STOP_S = 40.0
POLL_S = 0.02
TRIES = 3
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
_LAST_WORDS = 3000


class ServerFailedError(Exception):
    """A server did not start, or ended by itself; the message ends with its own last words."""


@dataclass(slots=True, kw_only=True)
class KeptPrograms:
    """Programs under one keeper.

    Attributes:
        programs: The arguments of each, by name.
        folder: Their working folder and home; `NAME.log` in it gets what they say.
        environment: More variables for them. Of ours they get only the path and the language.
        logs: Where what they say goes instead.
    """

    programs: Mapping[str, Sequence[str]]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    logs: Path | None = None
    _keeper: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start all of them."""
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", keeper.__file__],
            env=inherited() | {"HOME": str(self.folder)} | dict(self.environment),
            cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        assert self._keeper.stdin is not None
        programs = {name: list(arguments) for name, arguments in self.programs.items()}
        order = {"programs": programs, "logs": str(self._logs)}
        self._keeper.stdin.write(json.dumps(order).encode() + b"\n")
        self._keeper.stdin.flush()

    def check(self) -> None:
        """Return if every program still runs; ServerFailedError if not."""
        if self._keeper is not None and self._keeper.poll() is None:
            return
        name = next(iter(self.programs))
        if self._keeper is not None and self._keeper.stdout is not None:
            name = self._keeper.stdout.read().decode().strip() or name
        raise ServerFailedError(f"{name} ended by itself\n{self.last_words(name)}")

    def pids(self) -> set[int]:
        """The processes that run, children included."""
        return keeper.descendants(self._keeper.pid) if self._keeper is not None else set()

    def stop(self) -> None:
        """Stop all of them; a second time does nothing."""
        running, self._keeper = self._keeper, None
        if running is None:
            return
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.close()
        running.wait(timeout=STOP_S)
        running.stdout.close()

    def last_words(self, name: str) -> str:
        """The end of what a program said."""
        log = self._logs / f"{name}.log"
        return log.read_text(errors="replace")[-_LAST_WORDS:] if log.exists() else ""

    @property
    def _logs(self) -> Path:
        return self.logs or self.folder

    def wait(self, is_ready: Callable[[], bool], doing: str, seconds: float) -> None:
        """Return when it is ready; ServerFailedError when a program ended or the time is over."""
        deadline = time.monotonic() + seconds
        while not is_ready():
            self.check()
            if time.monotonic() > deadline:
                words = "\n".join(self.last_words(name) for name in self.programs)
                raise ServerFailedError(f"{doing}: not in {seconds:.0f} s\n{words}")
            time.sleep(POLL_S)


def inherited() -> dict[str, str]:
    """Of this process's environment, what concerns every program: path, language, time zone."""
    return {name: os.environ[name] for name in _INHERITED if name in os.environ}


def free_ports(count: int) -> tuple[int, ...]:
    """Ports of the loopback interface that nobody listens on, all different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return tuple(int(probe.getsockname()[1]) for probe in probes)
    finally:
        for probe in probes:
            probe.close()


def start_on_free_ports(
    count: int, start: Callable[..., None], *, stop: Callable[[], None]
) -> None:
    """Start a server on ports that nobody has, again on others if somebody took one meanwhile.

    Args:
        count: How many ports it needs.
        start: Takes so many ports; raises ServerFailedError with what the server said.
        stop: Called after a start that failed.

    Raises:
        ServerFailedError: It did not start, for another reason or three times for this one.
    """
    for left in reversed(range(TRIES)):
        try:
            return start(*free_ports(count))
        except ServerFailedError as error:
            stop()
            if not left or "address already in use" not in str(error).lower():
                raise
    raise AssertionError("unreachable")


def emptied(folder: Path, *inside: str) -> None:
    """Make a folder for a server's own use, with nothing in it but these folders; all 0700."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in folder.iterdir():
        shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    for name in inside:
        (folder / name).mkdir(mode=0o700)
