"""A witness as a program: `python -I -m airflow_secure_ml.witness`, on a host of its own.

It knows no log's events: it keeps the size and root that it cosigned last for each log, and refuses
what does not extend them. Imports neither Airflow nor anything it does not need.

Source: C2SP tlog-witness; AUDIT_TRAIL, What it proves.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_secure_ml.adapters.witness import Door

log = logging.getLogger("airflow_secure_ml.witness")

DEFAULT_LISTEN = "127.0.0.1:7380"
READY = "READY"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the witness; returns the exit status.

    0: told to end. 2: wrong configuration. 3: its memory cannot be used.
    """
    from airflow_secure_ml.errors import ConfigurationError, FormatError, SecureMLError

    options = _parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        _serve(options)
    except (SecureMLError, OSError) as error:
        log.error("%s", error)
        return 2 if isinstance(error, (ConfigurationError, FormatError)) else 3
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="airflow_secure_ml.witness", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="key, logs and memory")
    parser.add_argument("--listen", default=DEFAULT_LISTEN, metavar="HOST:PORT")
    parser.add_argument("--tls-cert", default="", metavar="PEM")
    parser.add_argument("--tls-key", default="", metavar="PEM")
    return parser.parse_args(arguments)


def _serve(options: argparse.Namespace) -> None:
    door = _door(options)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # A thread: shutdown waits for the loop that the handler would interrupt.
        signal.signal(number, lambda *_: threading.Thread(target=door.shutdown).start())
    scheme = "https" if options.tls_cert else "http"
    host = f"[{door.server_name}]" if ":" in door.server_name else door.server_name
    sys.stdout.write(f"{READY} {scheme}://{host}:{door.server_port}\n")
    sys.stdout.flush()
    try:
        door.serve_forever()
    finally:
        door.server_close()


def _door(options: argparse.Namespace) -> Door:
    from airflow_secure_ml.adapters.witness import (
        Door,
        SqliteMemory,
        read_logs,
        read_witness_key,
    )
    from airflow_secure_ml.errors import ConfigurationError
    from airflow_secure_ml.services.cosigning import Cosigner, logs_by_origin

    host, found, port = options.listen.rpartition(":")
    if not found or not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ConfigurationError(f"--listen {options.listen!r}: expected host:port")
    if bool(options.tls_cert) != bool(options.tls_key):
        raise ConfigurationError("--tls-cert and --tls-key belong together; give both or none")
    key = read_witness_key(options.dir)
    cosigner = Cosigner(
        key=key.public,
        sign=key.sign,
        logs=logs_by_origin(read_logs(options.dir)),
        memory=SqliteMemory(options.dir),
        now_s=lambda: int(time.time()),
    )
    tls = (options.tls_cert, options.tls_key) if options.tls_cert else None
    log.info("witness %s", key.public.vkey())
    return Door((host.strip("[]"), int(port)), cosigner.add_checkpoint, tls=tls)


if __name__ == "__main__":
    sys.exit(main())
