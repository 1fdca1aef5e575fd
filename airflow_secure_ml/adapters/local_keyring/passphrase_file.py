"""A passphrase in a file of its own, private to this user: what workers read it from."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from airflow_secure_ml.core.keyring.passphrase import MAX_BYTES
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError


def read_passphrase(path: Path) -> Secret:
    """The text of a file without its line's end.

    Raises:
        ConfigurationError: Not there, no file, another user's or one that others may read, empty,
            no UTF-8, too long.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: expected the keyring's passphrase: {os.strerror(error.errno or 0)}; "
            "set [secure_ml] keyring_passphrase_path to a file that this user may read"
        ) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
            raise ConfigurationError(
                f"{path}: expected a regular file of mode 0600 with the keyring's passphrase, "
                f"found mode {stat.S_IMODE(status.st_mode):04o}; others may read it. "
                "Run `chmod 600` on it and change the passphrase"
            )
        if status.st_uid not in (os.geteuid(), 0):
            raise ConfigurationError(
                f"{path}: expected a file of user {os.geteuid()} or root, found one of user "
                f"{status.st_uid}, who knows this passphrase; make one of your own"
            )
        data = os.read(descriptor, MAX_BYTES + 3)
    finally:
        os.close(descriptor)
    line = data.removesuffix(b"\n").removesuffix(b"\r")
    try:
        text = line.decode()
    except UnicodeDecodeError:
        # Not from the error: it carries the bytes.
        text = ""
    if not 1 <= len(line) <= MAX_BYTES or not text or "\n" in text:
        raise ConfigurationError(
            f"{path}: expected one line of UTF-8 up to {MAX_BYTES} bytes, the keyring's passphrase"
        )
    return Secret(text)
