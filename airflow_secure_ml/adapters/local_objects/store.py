"""The ObjectStore port over local paths and `file://` addresses."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from airflow_secure_ml.adapters.local_objects import aside
from airflow_secure_ml.adapters.local_objects.address import (
    canonical,
    canonical_path,
    plain_path,
    relative_parts,
    to_uri,
)
from airflow_secure_ml.adapters.local_objects.aside import failed
from airflow_secure_ml.adapters.local_objects.pinned import PinnedFile, kind_of, pin
from airflow_secure_ml.adapters.local_objects.pinned_directory import PinnedFolder, names_below
from airflow_secure_ml.adapters.local_objects.writers import DirectoryBuilder, FileWriter
from airflow_secure_ml.core.ports import ObjectInfo
from airflow_secure_ml.errors import FormatError, PolicyError

# The process's, not a store's: a store is made for each use, and without state.
_sweeps = aside.Sweeps()


class LocalObjects:
    """A store without state: an address is all it needs."""

    def canonical(self, address: str) -> str:
        """The one address: `file:///…`, absolute, symlinks resolved, percent-encoded one way."""
        return canonical(address)

    def child(self, uri: str, relative: str) -> str:
        """The canonical address of a name that `walk` gave."""
        root = plain_path(uri)
        address = canonical(to_uri(os.path.join(root, *relative_parts(relative))))
        # A symlink in the directory's own address shows here too.
        if not address.startswith(to_uri(root).rstrip("/") + "/"):
            raise FormatError(f"{uri}: {relative!r} is a symlink that leads out of the directory")
        return address

    def info(self, uri: str) -> ObjectInfo | None:
        """What lies at the address; None: nothing."""
        try:
            status = os.lstat(canonical_path(uri))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise failed(error, "look at", uri) from error
        if stat.S_ISDIR(status.st_mode):
            return ObjectInfo(uri=uri, is_directory=True, size_bytes=0)
        if not stat.S_ISREG(status.st_mode):
            raise FormatError(
                f"{uri}: expected a file or a directory, found {kind_of(status.st_mode)}"
            )
        return ObjectInfo(uri=uri, is_directory=False, size_bytes=status.st_size)

    def open(self, uri: str) -> PinnedFile:
        """Pin a regular file for reading; nothing else is ever opened."""
        return pin(uri)

    def open_directory(self, uri: str) -> PinnedFolder:
        """Pin a directory: held by a descriptor, each file's identity noted."""
        return PinnedFolder(canonical_path(uri), uri)

    def create(self, uri: str) -> FileWriter:
        """Begin a file; parents are made, and what killed writers left aside is removed."""
        return FileWriter(_prepared(uri), uri)

    def create_directory(self, uri: str) -> DirectoryBuilder:
        """Begin a directory; as `create`."""
        return DirectoryBuilder(_prepared(uri), uri)

    def walk(self, uri: str) -> Iterator[str]:
        """Relative names of the files below a directory, sorted; `_asml/` at its top is skipped.

        Everything is looked at before the first name is given.
        """
        root = canonical_path(uri)
        try:
            return iter(names_below(root, root))
        except NotADirectoryError as error:
            raise FormatError(f"{uri}: expected a directory, found a file") from error
        except FileNotFoundError:
            raise
        except OSError as error:
            raise failed(error, "list", uri) from error

    def walk_removed(self, uri: str) -> Iterator[str]:
        """None: a file system keeps no versions."""
        return iter(())

    def delete(self, uri: str) -> None:
        """Remove a file, or a directory with all below it; a directory goes at once."""
        path = canonical_path(uri)
        try:
            status = os.lstat(path)
            if stat.S_ISDIR(status.st_mode):
                # Renamed first: readers see the whole directory or none of it.
                name, descriptor = aside.make_directory(path)
                try:
                    inner = os.path.join(name, "old")
                    os.rename(path, inner)
                    aside.sync_directory(os.path.dirname(path))
                    aside.remove(name)
                finally:
                    os.close(descriptor)
            else:
                os.unlink(path)
                aside.sync_directory(os.path.dirname(path))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise failed(error, "remove", uri) from error

    def destroy(self, uri: str) -> int:
        """Overwrite a file with zeros and remove it; returns 1, or 0 where nothing was."""
        path = canonical_path(uri)
        try:
            # Not through a symlink: what it names has an address of its own.
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return 0
        except OSError as error:
            raise failed(error, "destroy", uri) from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FormatError(f"{uri}: expected a file to destroy")
            if status.st_nlink > 1:
                # A copy made of hard links is somebody else's data set.
                raise PolicyError(
                    f"{uri}: expected one name of it, found {status.st_nlink} (hard links), whose "
                    "bytes would be overwritten with it; remove the others, or copy it in place",
                    why="not_checkable",
                )
            _overwrite(descriptor)
            os.unlink(path)
            aside.sync_directory(os.path.dirname(path))
        except OSError as error:
            raise failed(error, "destroy", uri) from error
        finally:
            os.close(descriptor)
        return 1


def _prepared(uri: str) -> str:
    path = canonical_path(uri)
    folder = os.path.dirname(path)
    if path == folder:
        raise FormatError(f"{uri}: expected the address of an object, found the root directory")
    try:
        aside.make_parents(folder)
        _sweeps.sweep(folder)
    except (FileExistsError, NotADirectoryError) as error:
        raise FormatError(f"{uri}: expected a directory above it, found a file") from error
    except OSError as error:
        raise failed(error, "create", uri) from error
    return path


def _overwrite(descriptor: int) -> None:
    size_bytes, done = os.fstat(descriptor).st_size, 0
    zeros = bytes(min(size_bytes, 1 << 20))
    while done < size_bytes:
        done += os.pwrite(descriptor, zeros[: size_bytes - done], done)
    os.fsync(descriptor)
