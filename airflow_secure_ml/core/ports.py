"""What services need from the outside, as protocols; adapters and `testing` implement them.

A port is named by its role. It deals in values of `core` and raises errors of `errors`: no
vendor's type or exception crosses it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from airflow_secure_ml.core.audit.event import Fact
    from airflow_secure_ml.core.audit.query import EventQuery, Leaf
    from airflow_secure_ml.core.lease import Granted, LeaseLine
    from airflow_secure_ml.core.sealed_file.slots import Slot
    from airflow_secure_ml.core.secret import Secret
    from airflow_secure_ml.core.validation import CheckOutcome, RowSet, SuiteSource
    from airflow_secure_ml.errors import SecureMLError


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRef:
    """Which version of which key, as events and references name it.

    Attributes:
        system: `local`, `vault`, `awskms`.
        name: The key's name, such as `data`.
        version: Its version as text, such as `3`.
    """

    system: str
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


class KeyWrapper(Protocol):
    """One version of one key that wraps file keys: what a slot of a sealed file names."""

    @property
    def slot_type(self) -> int:
        """The slot's type number (SEALED_FILE_FORMAT)."""

    @property
    def slot_id(self) -> str:
        """The slot's id, such as `data/3`."""

    @property
    def ref(self) -> KeyRef:
        """The key as events name it."""

    def wrap(self, file_key: bytes | bytearray, core_id: bytes) -> bytes:
        """Wrap 32 bytes for the file whose 32-byte `core_id` is given; returns the slot's body."""

    def unwrap(self, body: bytes, core_id: bytes) -> bytearray:
        """Unwrap a slot's body.

        Raises:
            CiphertextError: The body was not wrapped by this key for this `core_id`.
            ServiceUnavailableError: The key system does not answer.
        """

    def ref_of(self, body: bytes) -> KeyRef:
        """The version that wrapped a body, as events name it.

        Not always `ref`: in Vault one slot stands for all versions of a key, and the body tells.
        """


class Signer(Protocol):
    """One version of one signing key (Ed25519)."""

    @property
    def ref(self) -> KeyRef:
        """The key as events name it."""

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over `message`."""


class Verifier(Protocol):
    """The public half of one version of a signing key (Ed25519)."""

    @property
    def ref(self) -> KeyRef:
        """The key as events name it."""

    @property
    def key_id(self) -> str:
        """What its signatures call it: its owner's `name/version`, which need not be ours."""

    @property
    def public_key(self) -> bytes:
        """The 32 bytes of the raw public key."""

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return if the signature holds; raise SignatureError otherwise."""


class KeySystem(Protocol):
    """A place that keeps named, versioned keys. Names only come from code or settings."""

    def wrapper(self, name: str) -> KeyWrapper:
        """The newest active version of a wrap key.

        Raises:
            PolicyError: `why` is key_missing, key_disabled or key_destroyed.
        """

    def unwrappers(self, names: Collection[str] | None = None) -> Sequence[KeyWrapper]:
        """Every version that may still open (active, retired), newest first; None: all keys."""

    def signer(self, name: str) -> Signer:
        """The newest active version of a sign key; PolicyError as in `wrapper`."""

    def verifiers(self, names: Collection[str]) -> Sequence[Verifier]:
        """Every version of these sign keys whose signatures are accepted (active, retired).

        Raises:
            PolicyError: A name is unknown (key_missing): an unknown signer never passes silently.
        """

    def state_of(self, slot_type: int, slot_id: str) -> str | None:
        """The state of the key version that a slot names: active, retired, disabled, destroyed.

        None: no such key here. A reader that none of its keys opens asks this, so that the answer
        is key_disabled or key_destroyed and not key_missing.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyVersion:
    """One version of a key.

    Attributes:
        number: From 1, never given twice.
        state: active, retired (only opens and verifies), disabled (for now), destroyed (forever).
        created: UTC; None: not known any more.
    """

    number: int
    state: str
    created: datetime | None


class KeyRotation(Protocol):
    """What a key system does to give its keys new versions and take old ones out of use."""

    def versions(self, name: str) -> Sequence[KeyVersion]:
        """Every version of a key as it is now, oldest first; PolicyError (key_missing)."""

    def rotate(self, name: str) -> KeyRef:
        """Make a new version; the ones before it only open and verify from now on."""

    def ref(self, name: str, version: int) -> KeyRef:
        """A version as events name it, without asking anybody."""

    def version_in(self, name: str, slot: Slot) -> int | None:
        """Which version of this key wrapped a slot, without asking anybody; None: another key."""

    def is_blind(self, name: str) -> bool:
        """Whether `rewrap` works for this key: it lies where no file key has to come out."""

    def rewrap(
        self, name: str, bodies: Sequence[tuple[bytes, bytes]]
    ) -> Sequence[bytes | SecureMLError]:
        """Wrap bodies anew under the newest version, where the key lies; no file key comes out.

        Args:
            name: The key.
            bodies: Slot bodies of this key, each with its file's 32-byte core_id; any number.

        Returns:
            For each the new body, or why there is none (CiphertextError, PolicyError).

        Raises:
            ConfigurationError: The key is held here; rewrap as a reader.
            ServiceError: Nothing was wrapped, for a reason that is no single body's.
        """

    def fence(self, name: str) -> int:
        """Let only the newest version wrap from now on, whoever asks; returns its number."""

    def retire_below(self, name: str, version: int) -> None:
        """Let versions below this one do nothing more; whoever manages the key can undo it.

        Raises:
            PolicyError: There is no such version (key_missing).
        """


class RotatingKeys(KeySystem, KeyRotation, Protocol):
    """A key system whose keys can be rotated."""


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


class DirectoryWriter(Protocol):
    """A directory built aside, published at once. A context manager as ObjectWriter."""

    def create(self, relative: str) -> ObjectWriter:
        """A writer for one file below the directory; `commit` makes it part of what is built."""

    def commit(self, *, replace: bool) -> str:
        """Publish the whole directory by one rename (an exchange if something is there).

        Raises:
            PolicyError: Something is there and `replace` is false (address_taken).
            ConfigurationError: The file system cannot exchange two names.
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

    def delete(self, uri: str) -> None:
        """Remove an object, or a directory with all below it; nothing there is no error."""


class AuditSink(Protocol):
    """Where this process says what it does; one emitter (AUDIT_TRAIL, Producers)."""

    def record(self, fact: Fact) -> str:
        """Take a fact; returns the event's name, `<emitter>:<seq>`. Durable only after `settle`."""

    def settle(self) -> None:
        """Return when everything recorded so far would survive a power loss.

        Raises:
            ServiceUnavailableError: It cannot be made durable (`why` audit_unavailable).
        """

    def close(self) -> None:
        """Record emitter.close and let go; written, not waited for. May be called twice."""


class AuditStore(Protocol):
    """A sequenced log, as readers see it (pages, `audit verify`, `audit show`)."""

    def origin(self) -> str:
        """The log's name, as checkpoints carry it."""

    def size(self) -> int:
        """Number of leaves."""

    def page(
        self,
        query: EventQuery,
        *,
        older_than: tuple[int, int] | None = None,
        newer_than: tuple[int, int] | None = None,
        limit: int = 50,
    ) -> Sequence[Leaf]:
        """Leaves that match, newest first by (time, index); keyset bounds are exclusive."""

    def count(self, query: EventQuery, *, at_most: int) -> int:
        """How many leaves match, counting no further than `at_most`."""

    def kinds(self, query: EventQuery, *, limit: int) -> Sequence[tuple[str, str]]:
        """(activity, result) of the newest leaves that match; `intent` where there is no result.

        A leaf may be large: for counting they are not all held.
        """

    def leaf(self, index: int) -> Leaf | None:
        """One leaf by its index from 0."""

    def find(self, event: str) -> Leaf | None:
        """One leaf by its event's name, `<emitter>:<seq>`."""

    def leaf_hashes(self, start: int, stop: int) -> Sequence[bytes]:
        """Stored leaf hashes of indices start … stop-1."""

    def checkpoint(self, *, at_most: int | None = None) -> str | None:
        """The newest signed note whose size is at most `at_most`; None: none yet."""

    def reveal(self, hidden: str) -> str | None:
        """The value behind a hidden value's hash; None: erased."""


class CredentialSource(Protocol):
    """A place that hands out credentials for a while."""

    def line(self) -> LeaseLine:
        """How the guardian reaches it; it is handed over before a credential is taken."""

    def grant(self, path: str, data: Mapping[str, str]) -> Granted:
        """Take a credential.

        Args:
            path: Where it is made, such as `database/creds/reader`.
            data: What the engine needs with the request; {}: nothing.

        Raises:
            ServiceRefusedError: It says no.
            ServiceUnavailableError: It does not answer.
        """

    def revoke(self, lease_id: Secret) -> None:
        """End a lease now; errors as in `grant`."""


class DataChecker(Protocol):
    """Something that holds data against expectations."""

    def suite_digest(self, suite: SuiteSource) -> str:
        """What the suite demands, as `sha256:…`; reads a file, calls a callable.

        Raises:
            ConfigurationError: The suite is unreadable, or asks for what is not allowed.
        """

    def check(self, data: Path, suite: SuiteSource, *, find_rows: bool) -> CheckOutcome:
        """Check a table on disk (CSV or Parquet, told apart by content).

        Args:
            data: The table's path.
            suite: Where the expectations come from.
            find_rows: Whether the positions of failing rows are wanted (quarantine).

        Raises:
            ConfigurationError: The suite is unreadable, or asks for what is not allowed.
            PolicyError: It cannot be checked (`why` not_checkable); a gate must not open then.
        """


class RowSplitter(Protocol):
    """Something that parts a table's rows into two files of the same format."""

    def split(self, data: Path, rows: RowSet, *, good: Path, bad: Path) -> tuple[int, int]:
        """Write the rows in `rows` to `bad` and the others to `good`, both new, in order.

        Returns:
            How many rows went to `good` and to `bad`.

        Raises:
            PolicyError: The table cannot be parted (`why` not_checkable).
            FileExistsError: Something is at `good` or `bad`.
        """
