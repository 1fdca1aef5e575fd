"""The token's PIN, in a file that only its owner reads; read anew at each login."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError

# PKCS#11 says nothing; tokens take some dozen.
MAX_PIN_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A PIN as its file had it.

    Attributes:
        secret: The PIN.
        state: What tells whether the file was changed since; no secret.
    """

    secret: Secret
    state: tuple[int, ...]


def read_pin(path: Path | None) -> Pin:
    """Read the PIN; a line's end behind it is no part of it.

    Raises:
        ConfigurationError: No such file, one that others may read, or no PIN in it.
    """
    if path is None:
        raise ConfigurationError(
            "[secure_ml] pkcs11_pin_path: expected the path of a file with the token's PIN, found "
            "none; nobody is asked for a PIN"
        )
    try:
        # Not blocking: whoever puts a pipe there would stop the task.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            found = os.fstat(handle)
            _check(path, found)
            data = file.read(MAX_PIN_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"[secure_ml] pkcs11_pin_path: {path}: {error.strerror}; expected a file that this "
            "process reads"
        ) from error
    try:
        text = data.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        # Not as its cause: that would carry the PIN along.
        text = ""
    if not text or len(data) > MAX_PIN_BYTES or not text.isprintable():
        raise ConfigurationError(
            f"[secure_ml] pkcs11_pin_path: {path}: expected one line of 1 to {MAX_PIN_BYTES} bytes"
        )
    state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return Pin(secret=Secret(text), state=state)


def _check(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ConfigurationError(
            f"[secure_ml] pkcs11_pin_path: {path}: expected a regular file, found another kind"
        )
    if stat.S_IMODE(found.st_mode) & 0o177 or found.st_uid not in (0, os.geteuid()):
        raise ConfigurationError(
            f"[secure_ml] pkcs11_pin_path: {path}: expected mode 0600 and this process's user, "
            f"found {stat.S_IMODE(found.st_mode):04o} and user {found.st_uid}; whoever reads it "
            "can use every key of the token"
        )
