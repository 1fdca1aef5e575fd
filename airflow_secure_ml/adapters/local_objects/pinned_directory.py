"""One state of a local directory: held by a descriptor, with the identity of each file in it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from airflow_secure_ml.adapters.local_objects.address import not_canonical, to_uri
from airflow_secure_ml.adapters.local_objects.aside import failed
from airflow_secure_ml.adapters.local_objects.pinned import (
    PinnedFile,
    kind_of,
    require_file,
    version_of,
)
from airflow_secure_ml.errors import FormatError, IntegrityError

_SKIPPED = "_asml"
_MAX_DEPTH = 64
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DELETED = " (deleted)"


class PinnedFolder:
    """PinnedDirectory over a descriptor.

    A directory that another takes the place of stays readable as long as its files exist; one
    whose files are gone is FileNotFoundError, never the new directory's bytes.

    Args:
        path: The directory's path, symlinks resolved.
        uri: Its canonical address.
    """

    def __init__(self, path: str, uri: str) -> None:
        self._uri, self._path = uri, path
        self._descriptor = -1
        try:
            self._descriptor = os.open(path, _FOLDER_FLAGS)
            if self._place() != path:
                raise not_canonical(uri, to_uri(self._place()))
            held = f"/proc/self/fd/{self._descriptor}"
            self._found = {name: self._look(name) for name in names_below(path, held)}
        except (NotADirectoryError, FileNotFoundError) as error:
            self._let_go()
            if os.path.lexists(path) and not os.path.isdir(path):
                raise FormatError(f"{uri}: expected a directory, found a file") from error
            raise FileNotFoundError(errno.ENOENT, "no directory there any more", uri) from error
        except OSError as error:
            self._let_go()
            raise failed(error, "list", uri) from error
        except BaseException:
            self._let_go()
            raise
        self._names = sorted(self._found)

    @property
    def uri(self) -> str:
        """The canonical address."""
        return self._uri

    @property
    def version(self) -> str:
        """Empty: a file system keeps no state of a whole directory."""
        return ""

    @property
    def files_at_once(self) -> int:
        """One: a disk's files are read by as many threads as there are processors."""
        return 1

    def names(self) -> Sequence[str]:
        """Relative names of its files, sorted."""
        return self._names

    def open(self, relative: str) -> PinnedFile:
        """Pin a file that is still the one that was listed."""
        then = self._listed(relative)
        try:
            name = self._inside(relative)
            descriptor = os.open(name, _FILE_FLAGS, dir_fd=self._held())
        except (FileNotFoundError, NotADirectoryError) as error:
            uri = self._address(relative)
            raise FileNotFoundError(errno.ENOENT, "removed since it was listed", uri) from error
        except OSError as error:
            uri = self._address(relative)
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise FormatError(f"{uri}: expected a file, found a symlink or socket") from error
            raise failed(error, "open", uri) from error
        try:
            return self._checked(descriptor, name, then)
        except BaseException:
            os.close(descriptor)
            raise

    def size_of(self, relative: str) -> int:
        """The length it had when the directory was listed."""
        return self._listed(relative).st_size

    def status_of(self, relative: str) -> os.stat_result:
        """What the file system said of a file, through a symlink, when it was listed."""
        return self._listed(relative)

    @property
    def descriptor(self) -> int:
        """The descriptor; ValueError once it was let go."""
        return self._held()

    def _checked(self, descriptor: int, name: str, then: os.stat_result) -> PinnedFile:
        uri = self._address(name)
        # The folder may be moved aside between the two: it is still the one that is held.
        before = self._place()
        found = os.readlink(f"/proc/self/fd/{descriptor}")
        roots = {before, self._place()}
        roots |= {root.removesuffix(_DELETED) for root in roots}
        if not {f"{root}/{name}" for root in roots} & {found, found.removesuffix(_DELETED)}:
            raise not_canonical(uri, to_uri(found))
        status = os.fstat(descriptor)
        require_file(status.st_mode, uri)
        if version_of(status) != version_of(then):
            raise IntegrityError(
                f"{uri}: expected the file that was there when its directory was listed, found "
                "another; read the directory again when its writer is done"
            )
        return PinnedFile(descriptor, uri, status)

    def _inside(self, relative: str) -> str:
        """The name itself, or what a symlink that stays inside leads to."""
        status = os.stat(relative, dir_fd=self._held(), follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            # Looked at first: opening a device can do something, opening a FIFO can block.
            require_file(status.st_mode, self._address(relative))
            return relative
        root = self._place()
        target = os.path.realpath(os.path.join(root, relative))
        if not target.startswith(root.rstrip("/") + "/"):
            raise FormatError(
                f"{self._uri}: {relative!r} is a symlink that leads out of the directory"
            )
        return os.path.relpath(target, root)

    def _look(self, name: str) -> os.stat_result:
        status = os.stat(name, dir_fd=self._descriptor)
        # The address is for the refusal alone, and takes as long as the look.
        if not stat.S_ISREG(status.st_mode):
            require_file(status.st_mode, self._address(name))
        return status

    def _listed(self, relative: str) -> os.stat_result:
        found = self._found.get(relative)
        if found is None:
            raise FormatError(f"{self._uri}: expected one of its files, found {relative!r}")
        return found

    def _address(self, name: str) -> str:
        return to_uri(os.path.join(self._path, name))

    def _place(self) -> str:
        return os.readlink(f"/proc/self/fd/{self._held()}")

    def _held(self) -> int:
        if self._descriptor < 0:
            raise ValueError(f"{self._uri}: read after it was let go")
        return self._descriptor

    def _let_go(self) -> None:
        held, self._descriptor = self._descriptor, -1
        if held >= 0:
            os.close(held)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._let_go()


def names_below(root: str, folder: str) -> list[str]:
    """Relative names of the files below a directory, sorted; `_asml/` at its top is skipped.

    Args:
        root: Its path, symlinks resolved.
        folder: A path to look through: `root`, or a held descriptor's.

    Raises:
        FormatError: A symlink that leads out, a device, two names that differ only in case, …
        OSError: What the system answered.
    """
    names: list[str] = []
    _collect(root, folder, "", names)
    return sorted(names)


def _collect(root: str, folder: str, prefix: str, names: list[str]) -> None:
    # 64 levels: a deeper tree is an attack on the stack, not a data set.
    if prefix.count("/") > _MAX_DEPTH:
        raise FormatError(f"{to_uri(root)}: expected at most {_MAX_DEPTH} levels below it")
    folded: dict[str, str] = {}
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        name = prefix + entry.name
        _require_text(root, name)
        other = folded.setdefault(entry.name.casefold(), name)
        if other != name:
            raise FormatError(
                f"{to_uri(root)}: {name!r} and {other!r} differ only in case; rename one"
            )
        if entry.is_dir(follow_symlinks=False):
            if name != _SKIPPED:
                _collect(root, entry.path, name + "/", names)
        elif entry.is_symlink():
            _require_inside(root, entry.path, name)
            names.append(name)
        elif entry.is_file(follow_symlinks=False):
            names.append(name)
        else:
            kind = kind_of(entry.stat(follow_symlinks=False).st_mode)
            raise FormatError(f"{to_uri(root)}: expected files only, found {kind} at {name!r}")


def _require_text(root: str, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise FormatError(f"{to_uri(root)}: {name!r} is not UTF-8; rename it") from error


def _require_inside(root: str, path: str, name: str) -> None:
    target = os.path.realpath(path)
    if not target.startswith(root.rstrip("/") + "/"):
        raise FormatError(f"{to_uri(root)}: {name!r} is a symlink that leads out of the directory")
    if not os.path.isfile(target):
        raise FormatError(
            f"{to_uri(root)}: {name!r} is a symlink to something else than a file; "
            "put the files themselves there"
        )
