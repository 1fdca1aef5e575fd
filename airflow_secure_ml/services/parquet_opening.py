"""Decrypt an encrypted Parquet file into a plain one with the columns that the reader may read.

The caller has held the file's digest against a signed manifest before: a byte of it is parsed only
then. Every column must be encrypted, and every module carries a tag; pages are not decoded.

Source: docs/parquet.md, Reading; parquet-format, Encryption.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from airflow_secure_ml.core.parquet import layout
from airflow_secure_ml.core.parquet.key_material import KeyMaterial
from airflow_secure_ml.core.parquet.modules import (
    OVERHEAD_BYTES,
    Kind,
    ModuleCipher,
    module_aad,
)
from airflow_secure_ml.core.parquet.projection import ArrowFields, project
from airflow_secure_ml.core.parquet.thrift import (
    I64,
    LIST,
    STRUCT,
    Items,
    Struct,
    read_struct,
    write_struct,
)
from airflow_secure_ml.core.ports import KeyRef, ObjectWriter, PinnedObject
from airflow_secure_ml.errors import FormatError, PolicyError, SecureMLError
from airflow_secure_ml.services.parquet_keys import ReaderKeys, is_no
from airflow_secure_ml.services.parquet_pages import Place, Sink, read_footer, sealed_pages

FOOTER = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The columns of one encrypted file, before a page was opened.

    Attributes:
        file_id: `aad_file_unique`.
        footer: FileMetaData.
        paths: Each leaf's path.
        own: By top-level name, the keys of the leaves that have keys of their own.
        footer_cipher: Opens all others.
        footer_key: Its key.
        key: The version that opened the footer.
        denied: By top-level name, why this reader may not open it.
    """

    file_id: bytes
    footer: Struct
    paths: list[tuple[str, ...]]
    own: Mapping[str, KeyMaterial]
    footer_cipher: ModuleCipher
    footer_key: KeyMaterial
    key: KeyRef
    denied: Mapping[str, SecureMLError]

    @property
    def names(self) -> list[str]:
        """Top-level names, in the schema's order."""
        return list(dict.fromkeys(path[0] for path in self.paths))

    @property
    def has_rows(self) -> bool:
        """Whether there is a row group, which alone says what columns have keys."""
        return bool(self.footer.structs(layout.ROW_GROUPS))


def read_columns(pinned: PinnedObject, keys: ReaderKeys) -> Columns:
    """Open an encrypted file's footer and ask for the keys of its columns.

    Args:
        pinned: Its digest was compared with a signed one before.
        keys: The reader's.

    Raises:
        FormatError: Not what `parquet_sealing` writes: another magic or algorithm, a column in
            the clear, keys that differ between row groups.
        PolicyError, ServiceRefusedError: The footer's key is not this reader's.
        CiphertextError, ServiceUnavailableError: As `ReaderKeys.kek`, of any column.
    """
    data = read_footer(pinned, layout.SEALED_MAGIC)
    crypto, end = layout.CryptoFooter.parse(data)
    material = KeyMaterial.parse(crypto.key_metadata, column=FOOTER)
    ref = keys.kek(material).ref
    cipher = keys.cipher(material)
    plain = cipher.open(data[end:], module_aad(crypto.file_id, Kind.FOOTER), "the footer")
    footer, length = read_struct(plain)
    if length != len(plain):
        raise FormatError("Parquet: bytes behind the footer's end")
    paths = layout.leaf_paths(footer)
    own = _own_keys(footer, paths)
    denied: dict[str, SecureMLError] = {}
    for name, one in own.items():
        try:
            keys.kek(one)
        except SecureMLError as error:
            if not is_no(error):
                raise
            denied[name] = error
    return Columns(
        file_id=crypto.file_id,
        footer=footer,
        paths=paths,
        own=own,
        footer_cipher=cipher,
        footer_key=material,
        key=ref,
        denied=denied,
    )


def choose(columns: Columns, wanted: Collection[str]) -> list[str]:
    """Which top-level columns to open: those wanted, or all that may be.

    Raises:
        FormatError: One that is wanted is not there.
        PolicyError: One that is wanted may not be opened, or none may.
    """
    for name in wanted:
        if name not in columns.names:
            raise FormatError(f"column {name!r} is not in the file; read one that is there")
        if name in columns.denied:
            raise _denial(name, columns)
    chosen = [
        name
        for name in columns.names
        if name not in columns.denied and (not wanted or name in wanted)
    ]
    if not chosen and columns.names:
        raise _denial(columns.names[0], columns)
    return chosen


def open_columns(
    pinned: PinnedObject,
    writer: ObjectWriter,
    columns: Columns,
    keys: ReaderKeys,
    *,
    keep: Collection[str],
    arrow_fields: ArrowFields | None = None,
) -> int:
    """Decrypt these columns into `writer`; the caller commits it.

    Args:
        pinned: What `read_columns` read.
        writer: Where the plain file goes.
        columns: What it found.
        keys: The reader's.
        keep: What `choose` gave.
        arrow_fields: Prunes Arrow's schema where columns are left out.

    Returns:
        Length of the plain file.

    Raises:
        CiphertextError: A page or a column's metadata was altered or moved.
        FormatError: The file is not laid out as its metadata says.
    """
    sink = Sink(writer)
    sink.write(layout.PLAIN_MAGIC)
    opener = _Opener(pinned, sink, columns, keys, keep)
    groups = [
        opener.group(ordinal, group)
        for ordinal, group in enumerate(columns.footer.structs(layout.ROW_GROUPS))
    ]
    footer = project(columns.footer, keep, arrow_fields)
    footer.put(layout.ROW_GROUPS, LIST, Items(STRUCT, groups))
    data = write_struct(footer)
    sink.write(data)
    sink.write(len(data).to_bytes(4, "little") + layout.PLAIN_MAGIC)
    sink.flush()
    return sink.at


class _Opener:
    """One file on its way."""

    def __init__(
        self,
        pinned: PinnedObject,
        sink: Sink,
        columns: Columns,
        keys: ReaderKeys,
        keep: Collection[str],
    ) -> None:
        self._pinned, self._sink, self._columns = pinned, sink, columns
        self._keys, self._keep = keys, keep
        self._ciphers: dict[bytes, ModuleCipher] = {}

    def group(self, ordinal: int, group: Struct) -> Struct:
        """A row group's metadata once its pages are written."""
        begin, grown = self._sink.at, 0
        made, chunks = group.copy(), []
        for column, chunk in enumerate(group.structs(layout.COLUMNS)):
            if self._columns.paths[column][0] not in self._keep:
                continue
            place = Place(file_id=self._columns.file_id, group=ordinal, column=column)
            meta, cipher = self._meta(place, chunk)
            meta = self._pages(place, meta, cipher)
            grown += meta.integer(layout.UNCOMPRESSED)
            plain = chunk.copy()
            plain.drop(layout.CRYPTO, layout.SEALED_META)
            plain.put(layout.META, STRUCT, meta)
            plain.put(layout.FILE_OFFSET, I64, layout.chunk_begin(meta))
            chunks.append(plain)
        made.put(layout.COLUMNS, LIST, Items(STRUCT, chunks))
        made.put(layout.GROUP_OFFSET, I64, begin)
        made.put(layout.GROUP_COMPRESSED, I64, self._sink.at - begin)
        made.put(layout.TOTAL_BYTES, I64, grown)
        if len(chunks) < len(self._columns.paths):
            # It counts columns by their place, which is another one now.
            made.drop(layout.SORTING)
        return made

    def _meta(self, place: Place, chunk: Struct) -> tuple[Struct, ModuleCipher]:
        """A chunk's metadata and what opens its pages."""
        path = self._columns.paths[place.column]
        how = chunk.struct(layout.CRYPTO)
        if layout.WITH_COLUMN_KEY not in how:
            meta, cipher = chunk.struct(layout.META), self._columns.footer_cipher
        else:
            material = how.struct(layout.WITH_COLUMN_KEY).binary(layout.KEY_METADATA)
            cipher = self._cipher(material, path[0])
            sealed = chunk.binary(layout.SEALED_META)
            data = cipher.open(sealed, place.aad(Kind.COLUMN_METADATA), f"column {path[0]!r}")
            meta, length = read_struct(data)
            if length != len(data):
                raise FormatError("Parquet: bytes behind a column's metadata")
        if layout.chunk_path(meta) != path:
            raise FormatError(f"Parquet: the chunk of column {path[0]!r} is of another column")
        return meta, cipher

    def _cipher(self, key_metadata: bytes, column: str) -> ModuleCipher:
        found = self._ciphers.get(key_metadata)
        if found is None:
            found = self._keys.cipher(KeyMaterial.parse(key_metadata, column=column))
            self._ciphers[key_metadata] = found
        return found

    def _pages(self, place: Place, meta: Struct, cipher: ModuleCipher) -> Struct:
        """Write a chunk's pages; returns its metadata with where they are now."""
        sink, begin, shrunk = self._sink, self._sink.at, 0
        made = meta.copy()
        data_at: int | None = None
        for page in sealed_pages(self._pinned, meta, cipher, place):
            if page.is_dictionary:
                made.put(layout.DICTIONARY_AT, I64, sink.at)
            elif data_at is None:
                data_at = sink.at
            sink.write(layout.page_header(page.header, page.raw, len(page.body)))
            sink.write(page.body)
            shrunk += 2 * OVERHEAD_BYTES
        made.put(layout.DATA_AT, I64, sink.at if data_at is None else data_at)
        made.put(layout.COMPRESSED, I64, sink.at - begin)
        made.put(layout.UNCOMPRESSED, I64, meta.integer(layout.UNCOMPRESSED) - shrunk)
        return made


def _own_keys(footer: Struct, paths: list[tuple[str, ...]]) -> dict[str, KeyMaterial]:
    """The key of each column that has its own; the same in every row group, and none in clear."""
    found: dict[str, KeyMaterial | None] = {}
    parsed: dict[tuple[bytes, str], KeyMaterial] = {}
    for group in footer.structs(layout.ROW_GROUPS):
        chunks = group.structs(layout.COLUMNS)
        if len(chunks) != len(paths):
            raise FormatError("Parquet: a row group has another number of columns than the schema")
        for path, chunk in zip(paths, chunks, strict=True):
            material = _key_of(chunk, path, parsed)
            first = found.setdefault(path[0], material)
            if _identity(first) != _identity(material):
                raise FormatError(f"Parquet: column {path[0]!r} has several keys")
    return {name: material for name, material in found.items() if material is not None}


def _key_of(
    chunk: Struct, path: tuple[str, ...], parsed: dict[tuple[bytes, str], KeyMaterial]
) -> KeyMaterial | None:
    """None: the footer's key."""
    if layout.CRYPTO not in chunk:
        raise FormatError(f"Parquet: column {path[0]!r} lies there in clear; it is not opened")
    how = chunk.struct(layout.CRYPTO)
    own = layout.WITH_COLUMN_KEY in how
    if (
        len(how.fields) != 1
        or own is (layout.META in chunk)
        or own is not (layout.SEALED_META in chunk)
    ):
        raise FormatError(f"Parquet: column {path[0]!r}: its metadata contradict its encryption")
    if not own:
        how.struct(layout.WITH_FOOTER_KEY)
        return None
    said = how.struct(layout.WITH_COLUMN_KEY)
    if layout.path_of(said.binaries(layout.KEY_PATH)) != path:
        raise FormatError(f"Parquet: the key of column {path[0]!r} is said to be another column's")
    name = (said.binary(layout.KEY_METADATA), path[0])
    if name not in parsed:
        parsed[name] = KeyMaterial.parse(name[0], column=name[1])
    return parsed[name]


def _identity(material: KeyMaterial | None) -> tuple[str, bytes, str] | None:
    if material is None:
        return None
    return material.key_name, material.kek_id, material.kek.as_text()


def _denial(name: str, columns: Columns) -> SecureMLError:
    error = columns.denied[name]
    why = error.why if isinstance(error, PolicyError) else "key_not_allowed"
    key = columns.own[name].key_name
    return PolicyError(f"column {name!r} is under key {key}: {error}", why=why)
