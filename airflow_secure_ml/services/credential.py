"""A leased credential as the body of a task gets it."""

from __future__ import annotations

import datetime as dt
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from airflow_secure_ml.core.lease import Granted
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError, PolicyError

_MAX_NAME_CHARS = 128


class Credential(Mapping[str, str]):
    """The fields of a leased credential by name; gone when the body has ended.

    Args:
        name: The declared name.
        granted: What was leased.
        expires_at: When it would end if nobody prolonged it, UTC; None: it does not end.
        make_folder: Makes an empty folder in scratch for its files, on first use.
    """

    def __init__(
        self,
        name: str,
        granted: Granted,
        expires_at: dt.datetime | None,
        make_folder: Callable[[], Path],
    ) -> None:
        self._name, self._expires_at, self._make_folder = name, expires_at, make_folder
        self._fields: Mapping[str, Secret] = granted.fields
        self._folder: Path | None = None
        self._has_ended = False
        self._making = threading.Lock()

    def __repr__(self) -> str:
        return f"Credential({self._name!r}, fields={list(self._fields)})"

    def __reduce__(self) -> NoReturn:
        # A pickle would carry it into an XCom or another process.
        raise TypeError("a Credential cannot be pickled; it belongs to one process and one task")

    def __getitem__(self, field: str) -> str:
        if self._has_ended:
            raise PolicyError(
                f"credential {self._name}: the task it was leased for has ended; use it in the "
                "body only",
                why="lease_refused",
            )
        if field not in self._fields:
            raise KeyError(field)
        return self._fields[field].reveal()

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    @property
    def username(self) -> str:
        """The leased user's name; ConfigurationError if there is none."""
        return self._required("username")

    @property
    def password(self) -> str:
        """The leased user's password; ConfigurationError if there is none."""
        return self._required("password")

    @property
    def expires_at(self) -> dt.datetime | None:
        """When it would end if nobody prolonged it, UTC; None: it does not end."""
        return self._expires_at

    def file(self, field: str) -> Path:
        """A file in scratch, mode 0600, that holds one field; for libraries that want a path.

        Raises:
            ConfigurationError: There is no such field, or its name cannot be a file's.
        """
        text = self._required(field)
        if "/" in field or field.startswith(".") or not 0 < len(field) <= _MAX_NAME_CHARS:
            raise ConfigurationError(
                f"credential {self._name}: a field of this name cannot be a file; read it as "
                "credential[…]"
            )
        with self._making:
            if self._folder is None:
                self._folder = self._make_folder()
            path = self._folder / field
            if not path.exists():
                _write(path, text)
        return path

    def folder(self) -> Path:
        """A folder in scratch with one file a field; for programs."""
        for field in self._fields:
            self.file(field)
        assert self._folder is not None
        return self._folder

    @property
    def made_folder(self) -> Path | None:
        """The folder, if a file was asked for."""
        return self._folder

    def end(self) -> None:
        """Give no field away any more."""
        self._has_ended = True

    def _required(self, field: str) -> str:
        try:
            return self[field]
        except KeyError:
            raise ConfigurationError(
                f"credential {self._name}: no field {field!r}, only {', '.join(self._fields)}"
            ) from None


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        # Lines end as they do in the secret.
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
    except BaseException:
        # Half a secret would be taken for a whole one the next time.
        path.unlink()
        raise
