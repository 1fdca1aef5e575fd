"""A local folder that a log is exported to: each file appears whole, under its name, or not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from airflow_secure_ml import durable_files
from airflow_secure_ml.errors import ServiceUnavailableError


class LocalExportFolder:
    """An ExportFolder over a directory of this machine (0700, files 0600), made if need be.

    Args:
        path: The directory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, path: str) -> bytes | None:
        """A file's bytes; None: there is none yet."""
        try:
            return (self._path / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _failed(self._path, "read", error) from error

    def write(self, path: str, data: bytes) -> None:
        """Make a file whole and durable, or not at all."""
        target = self._path / path
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _failed(self._path, "write", error) from error
        with whole_file(target) as stream:
            stream.write(data)


@contextlib.contextmanager
def whole_file(target: Path) -> Iterator[BinaryIO]:
    """Write a file (0600) that appears at its place, durable, when the block ends without an error.

    Raises:
        ServiceUnavailableError: It cannot be written.
    """
    # One name for all tries: what a killed one left is written over, and nothing piles up.
    aside = target.with_name(f".{target.name}.part")
    try:
        with durable_files.whole_file(target, aside) as stream:
            yield stream
    except OSError as error:
        raise _failed(target, "write", error) from error


def _failed(path: Path, action: str, error: OSError) -> ServiceUnavailableError:
    reason = error.strerror or str(error)
    return ServiceUnavailableError(service=f"export to {path}", action=action, reason=reason)
