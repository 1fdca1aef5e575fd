"""Walk the pages of a Parquet column chunk, plain or encrypted, and hand on what they become.

Pages are neither decompressed nor decoded: their bytes are sealed or opened as they are, one page
in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from airflow_secure_ml.core.digest import Digest, hasher
from airflow_secure_ml.core.manifest import Entry
from airflow_secure_ml.core.parquet import layout
from airflow_secure_ml.core.parquet.modules import (
    LENGTH_BYTES,
    Kind,
    ModuleCipher,
    module_aad,
    module_bytes,
)
from airflow_secure_ml.core.parquet.thrift import CutShortError, Struct, read_struct
from airflow_secure_ml.core.ports import ObjectWriter, PinnedObject
from airflow_secure_ml.errors import FormatError

# Nearly every header fits; one with long statistics is read again.
_HEADER_BYTES = 1024
# Pages are small beside what a store takes at once.
_HELD_BYTES = 1 << 20
MAX_HEADER_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page.

    Attributes:
        header: Its header, plain.
        raw: The bytes of its header.
        body: Its bytes, plain; compressed or not. Good until the next page is asked for.
        is_dictionary: Whether it is the chunk's dictionary.
        ordinal: Of a data page, from 0.
    """

    header: Struct
    raw: bytes | bytearray
    body: bytes | bytearray | memoryview
    is_dictionary: bool
    ordinal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which chunk of which file; what its modules are bound to.

    Attributes:
        file_id: `aad_file_unique`.
        group: The row group's ordinal.
        column: The column's ordinal.
    """

    file_id: bytes
    group: int
    column: int

    def aad(self, kind: Kind, *page: int) -> bytes:
        """What authenticates a module of this chunk."""
        return module_aad(self.file_id, kind, self.group, self.column, *page)

    def page_aads(self, page: tuple[bool, int]) -> tuple[bytes, bytes]:
        """Of a page's header, and of its bytes: of the dictionary, or of the data page so-many."""
        is_dictionary, ordinal = page
        if is_dictionary:
            return self.aad(Kind.DICTIONARY_PAGE_HEADER), self.aad(Kind.DICTIONARY_PAGE)
        return self.aad(Kind.DATA_PAGE_HEADER, ordinal), self.aad(Kind.DATA_PAGE, ordinal)


class Sink:
    """Writes one after another what `write` is given; digests it on the way if asked to."""

    def __init__(self, writer: ObjectWriter, algorithm: str | None = None) -> None:
        self._writer = writer
        self._algorithm = algorithm
        self._state = None if algorithm is None else hasher(algorithm)
        self._held, self._filled = memoryview(bytearray(_HELD_BYTES)), 0
        self.at = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append."""
        if len(data) > _HELD_BYTES:
            self.flush()
            self._hand_on(data)
        else:
            self._room(len(data))[:] = data

    def fill(self, count: int, into: Callable[[memoryview], object]) -> None:
        """Append `count` bytes that `into` puts where it is told."""
        if count > _HELD_BYTES:
            made = bytearray(count)
            into(memoryview(made))
            self.write(made)
        else:
            into(self._room(count))

    def _room(self, count: int) -> memoryview:
        if count > _HELD_BYTES - self._filled:
            self.flush()
        room = self._held[self._filled : self._filled + count]
        self._filled += count
        self.at += count
        return room

    def flush(self) -> None:
        """Hand on what is held; due at the end."""
        held = self._held[: self._filled]
        self._filled = 0
        self.at -= len(held)
        self._hand_on(held)

    def _hand_on(self, data: bytes | bytearray | memoryview) -> None:
        if self._state is not None:
            self._state.update(data)
        self._writer.write_at(self.at, data)
        self.at += len(data)

    def entry(self, path: str) -> Entry:
        """What was written, all of it, for a manifest."""
        self.flush()
        assert self._state is not None
        assert self._algorithm is not None
        digest = Digest(algorithm=self._algorithm, hex=self._state.hexdigest())
        return Entry(path=path, size_bytes=self.at, digest=digest)


def plain_pages(pinned: PinnedObject, meta: Struct) -> Iterator[Page]:
    """The pages of a plain chunk.

    Raises:
        FormatError: They do not fill the chunk exactly, or one is of an unknown kind.
    """
    at, end = _span(pinned, meta)
    ordinal = 0
    first = True
    buffer, ahead = memoryview(bytearray()), b""
    while at < end:
        header, raw = _plain_header(pinned, at, end, ahead)
        is_dictionary = _is_dictionary(header, first)
        size = header.integer(layout.PAGE_COMPRESSED)
        at += len(raw)
        _check_fits(size, at, end)
        # With the next page's header: half as many reads.
        wanted = min(size + _HEADER_BYTES, end - at)
        if len(buffer) < wanted:
            buffer = memoryview(bytearray(wanted))
        count = pinned.readinto_at(at, buffer[:wanted])
        if count < size:
            raise FormatError("Parquet: the file ends inside a page")
        at += size
        yield Page(
            header=header,
            raw=raw,
            body=buffer[:size],
            is_dictionary=is_dictionary,
            ordinal=ordinal,
        )
        ahead = bytes(buffer[size:count])
        ordinal += not is_dictionary
        first = False


def sealed_pages(
    pinned: PinnedObject, meta: Struct, cipher: ModuleCipher, place: Place
) -> Iterator[Page]:
    """The pages of an encrypted chunk; each is verified before it is yielded.

    Raises:
        CiphertextError: A page or its header was altered or moved.
        FormatError: They do not fill the chunk exactly.
    """
    at, end = _span(pinned, meta)
    is_dictionary = layout.DICTIONARY_AT in meta
    ordinal = 0
    while at < end:
        aads = place.page_aads((is_dictionary, ordinal))
        module = _take_module(pinned, at, end)
        at += len(module)
        plain = cipher.open(module, aads[0], "a page's header")
        header, length = read_struct(plain)
        if length != len(plain) or _is_dictionary(header, is_dictionary) != is_dictionary:
            raise FormatError("Parquet: a page's header is not of the page that is due")
        body = _take_module(pinned, at, end)
        at += len(body)
        if header.integer(layout.PAGE_COMPRESSED) != len(body):
            raise FormatError("Parquet: a page has another length than its header says")
        yield Page(
            header=header,
            raw=plain,
            body=cipher.open(body, aads[1], "a page"),
            is_dictionary=is_dictionary,
            ordinal=ordinal,
        )
        ordinal += not is_dictionary
        is_dictionary = False


def _span(pinned: PinnedObject, meta: Struct) -> tuple[int, int]:
    at, length = layout.chunk_begin(meta), meta.integer(layout.COMPRESSED)
    if length == 0:
        # Of a table without rows; Arrow says then that it lies at 0.
        return 0, 0
    if not layout.MAGIC_BYTES <= at <= at + length <= pinned.size_bytes:
        raise FormatError("Parquet: a column chunk lies outside its file")
    return at, at + length


def _is_dictionary(header: Struct, may_be: bool) -> bool:
    kind = header.integer(layout.PAGE_TYPE)
    if kind in (layout.DATA_PAGE, layout.DATA_PAGE_V2):
        return False
    if kind == layout.DICTIONARY_PAGE and may_be:
        return True
    raise FormatError(
        f"Parquet: a page of type {kind} where a data page is due; write the file with another tool"
    )


def _plain_header(pinned: PinnedObject, at: int, end: int, ahead: bytes) -> tuple[Struct, bytes]:
    """Read a page's header, of which the first bytes may have been read already."""
    wanted, data = _HEADER_BYTES, ahead
    while True:
        data = data or pinned.read_at(at, min(wanted, end - at))
        try:
            header, length = read_struct(data)
            return header, data[:length]
        except CutShortError:
            if wanted >= min(MAX_HEADER_BYTES, end - at):
                raise
            wanted, data = wanted * 16, b""


def _check_fits(size: int, at: int, end: int) -> None:
    if not 0 <= size <= end - at:
        raise FormatError("Parquet: a page is longer than its column chunk")


def _take(pinned: PinnedObject, at: int, size: int, end: int) -> bytes:
    _check_fits(size, at, end)
    data = pinned.read_at(at, size)
    if len(data) != size:
        raise FormatError("Parquet: the file ends inside a page")
    return data


def _take_module(pinned: PinnedObject, at: int, end: int) -> bytes:
    return _take(pinned, at, module_bytes(_take(pinned, at, min(LENGTH_BYTES, end - at), end)), end)


def read_footer(pinned: PinnedObject, magic: bytes) -> bytes:
    """A file's footer, its magic checked at both ends.

    Raises:
        FormatError: Another magic, or too short to be such a file.
    """
    size = pinned.size_bytes
    if size < 2 * layout.MAGIC_BYTES + layout.TAIL_BYTES:
        raise FormatError(f"Parquet: {size} bytes are no Parquet file")
    if pinned.read_at(0, layout.MAGIC_BYTES) != magic:
        raise FormatError(f"Parquet: expected the magic {magic.decode()} at its beginning")
    length = layout.footer_bytes(
        pinned.read_at(size - layout.TAIL_BYTES, layout.TAIL_BYTES), size, magic
    )
    return pinned.read_at(size - layout.TAIL_BYTES - length, length)
