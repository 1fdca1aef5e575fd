"""Find the servers that tests and the demo talk to, or build them once: `make servers`.

    python tests/servers/build.py vault s3 litewitness fsck

The path of the server's program goes to standard output, everything else to standard error. A
server that is on PATH in a version known here is taken; else the Go module beside this file is
built into the user's cache, where every later run finds it. The standard library alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
GO = (1, 26)
TOLD_EVERY_S, POLL_S, ASKED_S = 15.0, 0.2, 20.0
LAST_LINES = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that can be built.

    Attributes:
        folder: What holds its go.mod and go.sum.
        package: What is built there.
        programs: Its program's names on PATH, each with the oldest version known to work.
        patience: How long the first build takes.
        toolchain: Go's GOTOOLCHAIN; `auto` where a newer Go than ours comes from the module proxy.
        sources: Files of the folder that are compiled, where the package is our own.
    """

    name: str
    folder: Path
    package: str
    programs: tuple[tuple[str, tuple[int, int]], ...]
    patience: str
    toolchain: str = "local"
    sources: tuple[str, ...] = ()


SERVERS = {
    "vault": Server(
        name="vault",
        folder=HERE / "vault",
        package="github.com/hashicorp/vault",
        programs=(("vault", (1, 15)), ("bao", (2, 0))),
        patience="12 to 18 minutes on two cores, once",
    ),
    "s3": Server(
        name="s3",
        folder=HERE / "s3",
        package="github.com/versity/versitygw/cmd/versitygw",
        programs=(("versitygw", (1, 7)),),
        patience="about a minute on two cores, once",
    ),
    "litewitness": Server(
        name="litewitness",
        folder=HERE / "tlog",
        package="filippo.io/torchwood/cmd/litewitness",
        programs=(),
        patience="about a minute on two cores, once",
        toolchain="auto",
    ),
    # Never the one on PATH: that checks file systems.
    "fsck": Server(
        name="fsck",
        folder=HERE / "tlog",
        package="github.com/transparency-dev/tessera/cmd/fsck",
        programs=(),
        patience="about a minute on two cores, once",
        toolchain="auto",
    ),
    "sumdb": Server(
        name="sumdb",
        folder=HERE.parent / "interop" / "sumdb",
        package=".",
        programs=(),
        patience="seconds",
        sources=("main.go",),
    ),
}


class MissingServerError(Exception):
    """It is not there and cannot be built here; the message says what to do."""


def main(arguments: Sequence[str]) -> int:
    """Returns 0 where the server is there now, or may be missing; 1 where CI=true and it is not."""
    try:
        for name in arguments:
            print(obtain(SERVERS[name]))
    except MissingServerError as error:
        say(f"MISSING: {error}")
        return 1 if os.environ.get("CI") == "true" else 0
    return 0


def find(server: Server) -> Path | None:
    """The server's program, on PATH or in the cache; None where it has to be built."""
    for program, oldest in server.programs:
        path = shutil.which(program)
        if path and (version_of(path) or (0, 0)) >= oldest:
            return Path(path)
    built = cached(server)
    return built if built.exists() else None


def obtain(server: Server) -> Path:
    """Find it or build it; MissingServerError where neither is possible."""
    found = find(server)
    if found is not None:
        return found
    check_go(server)
    target = cached(server)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with only_one(target.with_name(f"{target.name}.lock"), server):
        if not target.exists():
            build(server, target)
    return target


def cached(server: Server) -> Path:
    """Where it is built: named after what it is built from, so another pin is another file."""
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum", *server.sources):
        digest.update((server.folder / name).read_bytes())
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = f"{server.name}-{digest.hexdigest()[:16]}-{platform.machine()}"
    return Path(cache) / "airflow-secure-ml" / name


def version_of(program: str) -> tuple[int, int] | None:
    """The version that a program says it is; None where it says nothing of the kind."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(
            [program, "version"], capture_output=True, text=True, check=False, timeout=ASKED_S,
            stdin=subprocess.DEVNULL, env=os.environ | {"GOTOOLCHAIN": "local"},
        ).stdout  # fmt: skip
        if match := re.search(r"(?:\bgo|\bv|\b)(\d+)\.(\d+)", said):
            return int(match[1]), int(match[2])
    return None


def check_go(server: Server) -> None:
    """Return where Go can build it."""
    needed = ".".join(map(str, GO))
    go = shutil.which("go")
    version = version_of(go) if go else None
    if version is None or version < GO:
        programs = " or ".join(program for program, _ in server.programs)
        missing = f"no {programs} on PATH" if programs else "not built yet"
        there = f"Go {'.'.join(map(str, version))} is there" if version else "Go is missing"
        raise MissingServerError(
            f"{server.name}: {missing}, and {there}; "
            f"install Go {needed} or newer, then `make servers` builds it"
        )


@contextlib.contextmanager
def only_one(lock: Path, server: Server) -> Iterator[None]:
    """One build at a time; whoever waits finds the other's result."""
    with lock.open("w") as file:
        told = Told(f"waiting for another build of {server.name}")
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                told.now_and_then()
                time.sleep(POLL_S)
        yield


def build(server: Server, target: Path) -> None:
    """Build it aside and rename it into place."""
    aside = f"{target.name}-build-"
    # What a killed build left; the lock says that no other one is at work.
    for left in target.parent.glob(f"{aside}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=aside, dir=target.parent) as name:
        folder = Path(name)
        for part in ("go.mod", "go.sum", *server.sources):
            shutil.copyfile(server.folder / part, folder / part)
        program, log = folder / "program", folder / "log"
        say(f"building {server.name} from its Go modules; {server.patience}")
        status = run_go(server, folder, program, log)
        if status:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-LAST_LINES:])
            raise MissingServerError(f"{server.name}: go build failed\n{last}")
        program.rename(target)


def run_go(server: Server, folder: Path, program: Path, log: Path) -> int:
    """Run go's build, telling now and then how far it is; its exit status."""
    own = {"CGO_ENABLED": "0", "GOFLAGS": "-trimpath", "GOWORK": "off"}
    own["GOTOOLCHAIN"] = server.toolchain
    # -v names each package when it is compiled: the only sign of progress that go gives.
    # -buildvcs=false: the cache may lie in a repository that git does not trust.
    command = ["go", "build", "-v", "-buildvcs=false", "-ldflags", "-s -w"]
    command += ["-o", str(program), server.package]
    told = Told(f"building {server.name}")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | own, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
        try:
            while process.poll() is None:
                told.now_and_then(log)
                time.sleep(POLL_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return process.returncode


class Told:
    """Says now and then what is going on, and for how long."""

    def __init__(self, what: str) -> None:
        self.what, self.began_s = what, time.monotonic()
        self.last_s = self.began_s

    def now_and_then(self, log: Path | None = None) -> None:
        now_s = time.monotonic()
        if now_s - self.last_s < TOLD_EVERY_S:
            return
        self.last_s = now_s
        text = f"{self.what}: {now_s - self.began_s:.0f} s"
        if log is not None:
            lines = log.read_text(errors="replace").splitlines()
            modules = sum(line.startswith("go: downloading") for line in lines)
            text += f", {modules} modules fetched, {len(lines) - modules} packages compiled"
        say(text)


def say(text: str) -> None:
    print(f"setup: {text}" if not text.startswith("MISSING") else text, file=sys.stderr, flush=True)


def stop(number: int, frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    # What was started is stopped, and what was half built removed.
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, stop)
    sys.exit(main(sys.argv[1:]))
