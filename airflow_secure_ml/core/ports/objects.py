"""Ports to objects: read what is pinned, write aside, publish at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self


class PinnedObject(Protocol):
    """One version of one object, held by one descriptor; a context manager that lets go of it."""

    @property
    def uri(self) -> str:
        """The canonical address."""

    @property
    def size_bytes(self) -> int:
        """Its length when it was pinned."""

    @property
    def version(self) -> str:
        """What tells this version from another (an inode's identity, a VersionId)."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end. Safe from many threads."""

    def readinto_at(self, offset: int, buffer: bytearray | memoryview) -> int:
        """Fill `buffer` from `offset`; returns the bytes read. Safe from many threads."""

    def check_unchanged(self) -> None:
        """Raise IntegrityError if the object changed since it was pinned."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class ObjectWriter(Protocol):
    """Bytes on their way to an address; nothing is visible there before `commit`.

    A context manager: leaving it without `commit` aborts and leaves nothing behind.
    """

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write `data` at `offset`, whole. Safe from many threads."""

    def commit(self, *, replace: bool, if_version: str | None = None) -> str:
        """Make the bytes durable and visible at once; returns the new version.

        Args:
            replace: Whether what is there may be replaced; its mode is kept then.
            if_version: With `replace`: only if this version (`PinnedObject.version`) is still
                what is there, compared and replaced in one step against other writers.

        Raises:
            PolicyError: Something is there and `replace` is false (address_taken).
            IntegrityError: Something else than `if_version` is there; it is left whole.
        """

    def abort(self) -> None:
        """Throw the bytes away; may be called twice and after `commit`, then it does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """What a store knows of an address without opening it.

    Attributes:
        uri: The canonical address.
        is_directory: Whether objects lie below it.
        size_bytes: Its length; 0 for a directory.
    """

    uri: str
    is_directory: bool
    size_bytes: int


class PinnedDirectory(Protocol):
    """One state of a directory: which files it has, and which bytes they are.

    A context manager that lets go of it. What came later under a listed name is refused, so what
    was verified is what is opened.
    """

    @property
    def uri(self) -> str:
        """The canonical address."""

    @property
    def version(self) -> str:
        """What tells this state from another; empty where a store keeps no state of a whole."""

    @property
    def files_at_once(self) -> int:
        """How many files are best read at the same time; 1: one after another."""

    def names(self) -> Sequence[str]:
        """Relative names of its files, sorted; without `_asml/` at its top."""

    def open(self, relative: str) -> PinnedObject:
        """Pin one of `names()` as it was when the directory was pinned. Safe from many threads.

        Raises:
            FileNotFoundError: It was removed since.
            FormatError: None of `names()`.
            IntegrityError: Something else lies there since.
        """

    def size_of(self, relative: str) -> int:
        """The length of one of `names()` when the directory was pinned.

        Raises:
            FormatError: None of `names()`.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class DirectoryWriter(Protocol):
    """A directory built aside, published at once. A context manager as ObjectWriter."""

    @property
    def files_at_once(self) -> int:
        """How many files are best written at the same time; 1: one after another."""

    def create(self, relative: str) -> ObjectWriter:
        """A writer for one file below the directory; `commit` makes it part of what is built.

        Safe from many threads.
        """

    def commit(self, *, replace: bool) -> str:
        """Publish the whole directory at once (by one rename or exchange); returns its version.

        Raises:
            PolicyError: Something is there and `replace` is false, or another writer took over
                (address_taken).
            ConfigurationError: The store cannot exchange a whole directory at once.
        """

    def abort(self) -> None:
        """Throw everything away; may be called twice."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class ObjectStore(Protocol):
    """A place that holds objects under addresses of one scheme.

    `canonical` takes what people write; every other `uri` is one that `canonical` or `child` gave.
    """

    def canonical(self, address: str) -> str:
        """The one address an object has: `file:///…` absolute with symlinks resolved.

        Raises:
            ConfigurationError: Not an address of this store, a glob, a NUL.
        """

    def child(self, uri: str, relative: str) -> str:
        """The canonical address of a name that `walk` gave for the directory `uri`.

        Not `uri + "/" + name`: names with a space or a percent sign are written otherwise in
        addresses.

        Raises:
            FormatError: Not a relative name, or it leads out of the directory.
        """

    def info(self, uri: str) -> ObjectInfo | None:
        """What lies at the address; None: nothing. Devices, FIFOs and sockets are FormatError."""

    def open(self, uri: str) -> PinnedObject:
        """Pin an object for reading.

        Raises:
            FileNotFoundError: Nothing is there.
            FormatError: A directory, device, FIFO or socket is there.
        """

    def open_directory(self, uri: str) -> PinnedDirectory:
        """Pin the state that a directory has now; nothing is read but what it lists.

        Raises:
            FileNotFoundError: Nothing is there.
            FormatError: A file is there, or as `walk`.
        """

    def create(self, uri: str) -> ObjectWriter:
        """Begin an object; parents are made."""

    def create_directory(self, uri: str) -> DirectoryWriter:
        """Begin a directory of objects."""

    def walk(self, uri: str) -> Iterator[str]:
        """Relative names (`a/b.csv`, sorted) of the files below a directory.

        Raises:
            FormatError: A symlink that leads out, a device, a FIFO, two names that differ only
                in case, `..` or NUL.
        """

    def walk_removed(self, uri: str) -> Iterator[str]:
        """Relative names below a directory that were removed and that older versions are kept of.

        None in a store without versions; `_asml/` is not skipped.
        """

    def delete(self, uri: str) -> None:
        """Remove an object, or a directory with all below it; nothing there is no error."""

    def destroy(self, uri: str) -> int:
        """Remove every copy of an object that the store has, older versions too.

        What a medium keeps below the store (snapshots, backups, a disk's spare blocks) is out of
        its reach.

        Returns:
            How many copies there were; 0: nothing was there.

        Raises:
            PolicyError: It has other names (hard links), whose bytes would go with it.
            ServiceRefusedError: A lock holds a copy; those it does not hold are gone.
        """
