"""A secret word in a file, read anew at each login: an agent may have renewed it.

What is read is never shown, and must be one word, since it may go into a header.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass

from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError

# A token, a secret id and a JWT are far shorter.
MAX_FILE_BYTES = 65536
_WORD = re.compile(r"[!-~]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFile:
    """A file with a secret word.

    Attributes:
        path: Where it is.
    """

    path: str


def one_word(what: str, source: Secret | SecretFile) -> Secret:
    """The secret word itself.

    Args:
        what: What it is, for messages: `token`.
        source: The word, or the file that holds it.

    Raises:
        ConfigurationError: No such file, or not one word.
    """
    if isinstance(source, SecretFile):
        where, text = f"vault: {what} in {source.path}", _read(what, source.path)
    else:
        where, text = f"vault: the connection's {what}", source.reveal().strip()
    if not _WORD.fullmatch(text):
        found = "nothing" if not text else "blanks or signs that are not ASCII in it"
        raise ConfigurationError(f"{where}: expected one word, found {found}")
    return Secret(text)


def _read(what: str, path: str) -> str:
    try:
        # Not blocking: whoever puts a pipe there would stop the task.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise ConfigurationError(f"vault: {what} in {path}: expected a regular file")
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"vault: {what} in {path}: {error.strerror}; expected a file that this process reads"
        ) from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigurationError(f"vault: {what} in {path}: longer than {MAX_FILE_BYTES} bytes")
    return data.decode("utf-8", errors="replace").strip()
