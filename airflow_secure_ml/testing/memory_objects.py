"""An in-memory ObjectStore: `file://` addresses without files, symlinks or rights."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import quote, unquote

from airflow_secure_ml.core.aborting import Aborting
from airflow_secure_ml.core.ports import ObjectInfo
from airflow_secure_ml.errors import (
    ConfigurationError,
    FormatError,
    IntegrityError,
    PolicyError,
)

_SAFE = "/!$&'()+,;=:@-._~"
_SKIPPED = "_asml/"


class _Ending(Aborting):
    def abort(self) -> None:
        """Nothing was visible yet, so there is nothing to take back."""


class MemoryPinned(_Ending):
    """PinnedObject over bytes that a test may change underneath."""

    def __init__(self, store: MemoryObjects, uri: str) -> None:
        self._store, self._uri = store, uri
        self._data, self._version = store.objects[uri], store.versions[uri]

    @property
    def uri(self) -> str:
        """The canonical address."""
        return self._uri

    @property
    def size_bytes(self) -> int:
        """Its length."""
        return len(self._data)

    @property
    def version(self) -> str:
        """A number that grows with each commit."""
        return self._version

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`."""
        return bytes(self._data[offset : offset + length])

    def readinto_at(self, offset: int, buffer: bytearray | memoryview) -> int:
        """Fill `buffer` from `offset`; returns the bytes read."""
        view = memoryview(buffer)
        part = self.read_at(offset, len(view))
        view[: len(part)] = part
        return len(part)

    def check_unchanged(self) -> None:
        """Raise IntegrityError if a test marked this version as changed (`change_in_place`)."""
        if self._version in self._store.changed:
            raise IntegrityError(f"{self._uri}: changed while it was read")


class MemoryWriter(_Ending):
    """ObjectWriter whose bytes become an entry of a dict."""

    def __init__(self, publish: Callable[[bytes, bool, str | None], str]) -> None:
        self._publish = publish
        self._data = bytearray()
        self._guard = threading.Lock()
        self._done = False

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write `data` at `offset`; a hole before it is zeros."""
        self._require_open()
        with self._guard:
            self._data.extend(bytes(max(0, offset - len(self._data))))
            self._data[offset : offset + len(data)] = data

    def commit(self, *, replace: bool, if_version: str | None = None) -> str:
        """Make the bytes visible."""
        self._require_open()
        self._done = True
        return self._publish(bytes(self._data), replace, if_version)

    def abort(self) -> None:
        """Throw the bytes away."""
        self._done = True

    def _require_open(self) -> None:
        if self._done:
            raise ValueError("used after commit or abort")


class MemoryPinnedDirectory(_Ending):
    """PinnedDirectory: what a MemoryObjects held when it was made."""

    version = ""
    files_at_once = 1

    def __init__(self, store: MemoryObjects, uri: str) -> None:
        self.uri = uri
        self._files = {
            name: MemoryPinned(store, store.child(uri, name)) for name in store.walk(uri)
        }

    def names(self) -> Sequence[str]:
        """Relative names of its files, sorted."""
        return sorted(self._files)

    def open(self, relative: str) -> MemoryPinned:
        """One of its files, as it was."""
        return self._listed(relative)

    def size_of(self, relative: str) -> int:
        """Its length."""
        return self._listed(relative).size_bytes

    def _listed(self, relative: str) -> MemoryPinned:
        if relative not in self._files:
            raise FormatError(f"{self.uri}: expected one of its files, found {relative!r}")
        return self._files[relative]


class MemoryDirectory(_Ending):
    """DirectoryWriter whose files become visible together."""

    files_at_once = 1

    def __init__(self, store: MemoryObjects, uri: str) -> None:
        self._store, self._uri = store, uri
        self._files: dict[str, bytes] = {}
        self._done = False

    def create(self, relative: str) -> MemoryWriter:
        """A writer for one file below the directory."""
        self._require_open()
        address = self._store.child(self._uri, relative)
        for other in self._files:
            if other != address and other.casefold() == address.casefold():
                raise FormatError(f"{self._uri}: {relative!r} differs only in case from another")

        def publish(data: bytes, replace: bool, if_version: str | None) -> str:
            if address in self._files and not replace:
                raise _taken(address)
            self._files[address] = data
            return "0"

        return MemoryWriter(publish)

    def commit(self, *, replace: bool) -> str:
        """Make the whole directory visible."""
        self._require_open()
        self._done = True
        if self._store.info(self._uri) is not None:
            if not replace:
                raise _taken(self._uri)
            self._store.delete(self._uri)
        self._store.directories.add(self._uri)
        for address, data in self._files.items():
            self._store.put(address, data)
        return str(len(self._store.versions))

    def abort(self) -> None:
        """Throw everything away."""
        self._done = True

    def _require_open(self) -> None:
        if self._done:
            raise ValueError("used after commit or abort")


class MemoryObjects:
    """ObjectStore over a dict of `file://` addresses; no symlinks, no rights.

    Attributes:
        objects: Bytes by address; a test may look at and change them.
        versions: Version by address.
        changed: Versions whose readers are to notice a change.
        directories: Addresses of directories, empty ones too.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.versions: dict[str, str] = {}
        self.changed: set[str] = set()
        self.directories: set[str] = set()
        self._count = 0
        self._guard = threading.RLock()

    def canonical(self, address: str) -> str:
        """The one address an object has."""
        if any(sign in address for sign in "*?[\0"):
            raise ConfigurationError(f"{address!r}: a glob or NUL is no address")
        encoded = address.startswith("file:///")
        path = address.removeprefix("file://") if encoded else address
        if not path.startswith("/"):
            raise ConfigurationError(f"{address!r}: expected an absolute path or file:///…")
        parts: list[str] = []
        for part in path.split("/"):
            if part == "..":
                parts = parts[:-1]
            elif part not in ("", "."):
                parts.append(part)
        path = "/" + "/".join(parts)
        return "file://" + (path if encoded else quote(path, safe=_SAFE))

    def child(self, uri: str, relative: str) -> str:
        """The canonical address of a name that `walk` gave."""
        if "\0" in relative or any(part in ("", ".", "..") for part in relative.split("/")):
            raise FormatError(f"{relative!r}: expected a relative name such as a/b.csv")
        return f"{uri}/{quote(relative, safe=_SAFE)}"

    def info(self, uri: str) -> ObjectInfo | None:
        """What lies at the address."""
        if uri in self.objects:
            return ObjectInfo(uri=uri, is_directory=False, size_bytes=len(self.objects[uri]))
        below = any(name.startswith(uri + "/") for name in self.objects)
        if below or uri in self.directories:
            return ObjectInfo(uri=uri, is_directory=True, size_bytes=0)
        return None

    def open(self, uri: str) -> MemoryPinned:
        """Pin an object for reading."""
        with self._guard:
            info = self.info(uri)
            if info is None:
                raise FileNotFoundError(2, "no object there", uri)
            if info.is_directory:
                raise FormatError(f"{uri}: expected a file, found a directory")
            return MemoryPinned(self, uri)

    def open_directory(self, uri: str) -> MemoryPinnedDirectory:
        """Pin a directory with all its files."""
        with self._guard:
            return MemoryPinnedDirectory(self, uri)

    def create(self, uri: str) -> MemoryWriter:
        """Begin an object."""

        def publish(data: bytes, replace: bool, if_version: str | None) -> str:
            with self._guard:
                there = self.versions.get(uri)
                if if_version is not None and there != if_version:
                    raise IntegrityError(f"{uri}: another version is there; its bytes stay")
                if self.info(uri) is not None and (there is None or not replace):
                    raise _taken(uri)
                return self.put(uri, data)

        return MemoryWriter(publish)

    def create_directory(self, uri: str) -> MemoryDirectory:
        """Begin a directory of objects."""
        return MemoryDirectory(self, uri)

    def walk(self, uri: str) -> Iterator[str]:
        """Relative names of the files below a directory, sorted; `_asml/` is skipped."""
        info = self.info(uri)
        if info is None:
            raise FileNotFoundError(2, "no object there", uri)
        if not info.is_directory:
            raise FormatError(f"{uri}: expected a directory, found a file")
        names = sorted(_unquoted(name, uri) for name in self.objects if name.startswith(uri + "/"))
        return iter([name for name in names if not name.startswith(_SKIPPED)])

    def walk_removed(self, uri: str) -> Iterator[str]:
        """None: no versions are kept."""
        return iter(())

    def delete(self, uri: str) -> None:
        """Remove an object, or a directory with all below it."""
        with self._guard:
            for name in [
                each for each in self.objects if each == uri or each.startswith(uri + "/")
            ]:
                del self.objects[name], self.versions[name]
            self.directories.discard(uri)

    def destroy(self, uri: str) -> int:
        """Remove an object; there is one copy of it, or none."""
        with self._guard:
            self.versions.pop(uri, None)
            return 0 if self.objects.pop(uri, None) is None else 1

    def put(self, address: str, data: bytes) -> str:
        """Place bytes without a writer; returns the version."""
        with self._guard:
            self._count += 1
            self.objects[address] = data
            self.versions[address] = str(self._count)
            return self.versions[address]

    def change_in_place(self, uri: str, data: bytes) -> None:
        """Change an object as a writer that knows no rules would: pinned readers notice."""
        with self._guard:
            self.changed.add(self.versions[uri])
            self.objects[uri] = data


def _taken(uri: str) -> PolicyError:
    return PolicyError(f"{uri}: something is there already", why="address_taken")


def _unquoted(address: str, uri: str) -> str:
    return unquote(address[len(uri) + 1 :])
