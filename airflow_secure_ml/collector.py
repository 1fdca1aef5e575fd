"""The collector as a program: `python -I -m airflow_secure_ml.collector`.

Runs as a user of its own, takes events over a Unix socket, and lays them where a sequencer of the
same user finds them (`--collector`). Signals, locks and what it says of itself are handled here.
Imports neither Airflow nor anything it does not need.

Source: AUDIT_TRAIL, What it proves: the collector of another UID.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

    from airflow_secure_ml.adapters.collector.places import Places
    from airflow_secure_ml.adapters.collector.server import Collector
    from airflow_secure_ml.adapters.spool import Spool
    from airflow_secure_ml.core.audit.receiving import Sender

log = logging.getLogger("airflow_secure_ml.collector")

READY = "READY"
PLACES_FILE = "collector.db"
LOCK_FILE = "collector.lock"
# Held to its end until a part is full, so smaller than a spool's: many senders live long.
MAX_SEGMENT_BYTES = 1 << 20
MAX_USER_BYTES = 512 << 20
# Of one user in an hour; a sender in a loop must not fill the log with how it was refused.
MAX_TOLD = 20
TOLD_S = 3600.0
MAX_USERS_TOLD = 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Take events until told to stop; returns the exit status.

    0: stopped. 2: wrong configuration, or another collector runs. 3: a directory or the socket
    cannot be used.
    """
    import sqlite3

    from airflow_secure_ml.errors import ConfigurationError, FormatError, SecureMLError

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    options = _parse(arguments)
    os.umask(0o077)
    try:
        _check_room(options)
        _serve(options)
    except (ConfigurationError, FormatError) as error:
        log.error("%s", error)
        return 2
    except (SecureMLError, OSError, sqlite3.Error) as error:
        log.error("%s", error)
        return 3
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="airflow_secure_ml.collector", description=__doc__)
    parser.add_argument("--audit-dir", type=Path, required=True)
    parser.add_argument("--socket", type=Path, required=True, help="[secure_ml] audit_collector")
    parser.add_argument(
        "--socket-mode",
        type=lambda text: int(text, 8),
        default=0o666,
        help="who may connect, beside what the socket's directory allows (666)",
    )
    parser.add_argument(
        "--allow-uid", type=int, action="append", help="only these users may send; else all"
    )
    parser.add_argument(
        "--user-bytes", type=int, default=MAX_USER_BYTES, help="what may wait of each user"
    )
    parser.add_argument("--user-lines", type=int, default=256, help="connections of each user")
    return parser.parse_args(arguments)


def _check_room(options: argparse.Namespace) -> None:
    """Refuse a quota that held segments alone could use up: nothing would ever free them."""
    from airflow_secure_ml.errors import ConfigurationError

    least_bytes = 2 * options.user_lines * MAX_SEGMENT_BYTES
    if options.user_bytes < least_bytes:
        raise ConfigurationError(
            f"--user-bytes {options.user_bytes}: expected at least {least_bytes} with --user-lines "
            f"{options.user_lines}, two segments of each connection"
        )


def _serve(options: argparse.Namespace) -> None:
    from airflow_secure_ml.adapters.collector.door import open_door
    from airflow_secure_ml.adapters.collector.places import Places
    from airflow_secure_ml.adapters.spool import Spool

    options.audit_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = _lock(options.audit_dir / LOCK_FILE)
    # What was refused is said by an emitter of its own, in the spool of its user.
    sink = Spool(options.audit_dir, "collector")
    places = Places(options.audit_dir / PLACES_FILE)
    door = open_door(options.socket, options.socket_mode)
    try:
        collector = _make(options, door=door, places=places, told=Told(sink))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: collector.stop())
        sys.stdout.write(f"{READY} {options.socket}\n")
        sys.stdout.flush()
        collector.run()
    finally:
        door.close()
        places.close()
        sink.close()
        os.close(lock)


def _lock(path: Path) -> int:
    """Be the only collector of a directory; the lock is lost with the process."""
    import fcntl

    from airflow_secure_ml.errors import ConfigurationError

    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        os.close(descriptor)
        raise ConfigurationError(f"{path}: another collector runs; stop it first") from error
    return descriptor


def _make(
    options: argparse.Namespace, *, door: socket.socket, places: Places, told: Told
) -> Collector:
    from airflow_secure_ml.adapters.collector.server import Collector, Limits
    from airflow_secure_ml.adapters.collector.usage import Usage
    from airflow_secure_ml.adapters.spool.parts import Parts, boot_id
    from airflow_secure_ml.core.audit.collecting import COLLECTED_DIRECTORY

    folder = options.audit_dir / COLLECTED_DIRECTORY
    return Collector(
        door=door,
        places=places,
        usage=Usage(folder, options.user_bytes),
        open_segment=lambda emitter, stamp: Parts(
            os, (str(folder),), emitter, MAX_SEGMENT_BYTES, preamble=stamp
        ),
        tell=told,
        limits=Limits(
            lines_of_one=options.user_lines,
            users=None if options.allow_uid is None else frozenset(options.allow_uid),
        ),
        boot=boot_id() or "",
    )


class Told:
    """Says in the trail whom the collector refused, so often and no more.

    Args:
        sink: The collector's own emitter.
        now_s: A clock that never goes back, seconds.
    """

    def __init__(self, sink: Spool, now_s: Callable[[], float] = time.monotonic) -> None:
        self._sink, self._now_s = sink, now_s
        self._counts: dict[int, int] = {}
        self._since_s = now_s()

    def __call__(self, sender: Sender, emitter: str | None, because: str) -> None:
        """Say that a sender was refused; what is left out is in the collector's own output."""
        from airflow_secure_ml.core.audit.event import Fact
        from airflow_secure_ml.errors import SecureMLError

        now_s = self._now_s()
        if now_s - self._since_s >= TOLD_S:
            self._counts, self._since_s = {}, now_s
        count = self._counts.get(sender.uid, 0)
        if count >= MAX_TOLD or len(self._counts) >= MAX_USERS_TOLD:
            return
        self._counts[sender.uid] = count + 1
        more = {
            "about": "collector.refused",
            "subject": f"uid {sender.uid}, process {sender.pid}",
            "because": because,
            "emitters": None if emitter is None else [emitter],
        }
        try:
            self._sink.record(Fact(act="alert.raise", phase="seen", result="ok", more=more))
            self._sink.settle()
        except SecureMLError as error:
            # It takes events for as long as it can; this one stays pending and goes with the next.
            log.error("%s", error)


if __name__ == "__main__":
    sys.exit(main())
