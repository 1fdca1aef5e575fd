"""Encrypt a plain Parquet file column by column: Parquet Modular Encryption, written page by page.

Columns that are named get keys of their own; all others, and the footer with every name, the
output's. The pages' bytes are encrypted as they are, so nothing is decoded and one page is in
memory at a time. Page indexes and Bloom filters, which readers can do without, are left out.

Source: parquet-format, Encryption.md; docs/parquet.md.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from airflow_secure_ml.core.manifest import Entry
from airflow_secure_ml.core.parquet import layout
from airflow_secure_ml.core.parquet.key_material import (
    KEK_ID_BYTES,
    KEY_BYTES,
    KeyMaterial,
    WrappedKek,
    check_column_name,
    kek_core_id,
    wrap_dek,
)
from airflow_secure_ml.core.parquet.modules import (
    OVERHEAD_BYTES,
    Kind,
    ModuleCipher,
    RandomBytes,
    module_aad,
)
from airflow_secure_ml.core.parquet.projection import without_extents
from airflow_secure_ml.core.parquet.thrift import (
    BINARY,
    I16,
    I64,
    LIST,
    STRUCT,
    Items,
    Struct,
    read_struct,
    write_struct,
)
from airflow_secure_ml.core.ports import KeyRef, KeyWrapper, ObjectWriter, PinnedObject
from airflow_secure_ml.core.sealed_file.keys import wipe
from airflow_secure_ml.errors import FormatError, PolicyError
from airflow_secure_ml.services.parquet_pages import (
    Page,
    Place,
    Sink,
    plain_pages,
    read_footer,
)

FOOTER = ""
_NOT_PLAIN = (layout.FILE_PATH, layout.CRYPTO, layout.SEALED_META)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedKey:
    """A wrap key under the name that settings and rules give it.

    Attributes:
        name: Such as `pii`.
        wrapper: Its newest version.
    """

    name: str
    wrapper: KeyWrapper


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kek:
    key: bytearray
    kek_id: bytes
    wrapped: WrappedKek


class ColumnKeys:
    """The keys of one output: wrapped once, however many files it has; a context manager.

    Args:
        uri: The output's canonical address, to which its keys are bound.
        footer: Key of the footer and of the columns that are not named.
        columns: Top-level name to key.
        random_bytes: Whence keys and nonces come.

    Raises:
        ConfigurationError: A column of a name that cannot have a key.
    """

    def __init__(
        self,
        uri: str,
        footer: NamedKey,
        columns: Mapping[str, NamedKey],
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> None:
        for column in columns:
            check_column_name(column)
        self._uri = uri
        self._keys = {FOOTER: footer, **columns}
        self._keks: dict[str, _Kek] = {}
        # Files of one output are written by several threads.
        self._lock = threading.Lock()
        self.columns = frozenset(columns)
        self.random_bytes = random_bytes

    def __enter__(self) -> ColumnKeys:
        return self

    def __exit__(self, *error: object) -> None:
        wipe(*(kek.key for kek in self._keks.values()))
        self._keks.clear()

    @property
    def ref(self) -> KeyRef:
        """The version that the footer was sealed to."""
        return self._refs()[FOOTER]

    @property
    def column_refs(self) -> list[KeyRef]:
        """The versions that columns were sealed to, each once."""
        return list(dict.fromkeys(ref for name, ref in self._refs().items() if name != FOOTER))

    def _refs(self) -> dict[str, KeyRef]:
        return {
            name: self._keys[name].wrapper.ref_of(kek.wrapped.body)
            for name, kek in self._keks.items()
        }

    def fresh(self, column: str) -> tuple[ModuleCipher, bytes]:
        """A new data key for a column of one file, and what the file says of it."""
        with self._lock:
            named, kek = self._keys[column], self._kek(column)
        dek = bytearray(self.random_bytes(KEY_BYTES))
        material = KeyMaterial(
            key_name=named.name,
            kek_id=kek.kek_id,
            kek=kek.wrapped,
            wrapped_dek=wrap_dek(kek.key, kek.kek_id, dek, self.random_bytes),
        )
        cipher = ModuleCipher(dek, self.random_bytes)
        wipe(dek)
        said = material.as_json()
        # What a reader would not take must not be published: nobody could open it again.
        KeyMaterial.parse(said, column=column)
        return cipher, said

    def _kek(self, column: str) -> _Kek:
        found = self._keks.get(column)
        if found is not None:
            return found
        named = self._keys[column]
        key, kek_id = bytearray(self.random_bytes(KEY_BYTES)), self.random_bytes(KEK_ID_BYTES)
        core_id = kek_core_id(self._uri, named.name, column, kek_id)
        wrapped = WrappedKek(
            slot_type=named.wrapper.slot_type,
            slot_id=named.wrapper.slot_id,
            column=column,
            body=named.wrapper.wrap(key, core_id),
        )
        made = self._keks[column] = _Kek(key=key, kek_id=kek_id, wrapped=wrapped)
        return made


def seal_parquet(
    pinned: PinnedObject,
    writer: ObjectWriter,
    *,
    keys: ColumnKeys,
    path: str = "",
    algorithm: str = "sha256",
) -> Entry:
    """Encrypt a pinned plain Parquet file into `writer`; the caller commits it.

    Args:
        pinned: What the body wrote.
        writer: Where to.
        keys: The output's keys.
        path: The file's relative name in the manifest.
        algorithm: Of the digest.

    Returns:
        Its entry for a manifest.

    Raises:
        FormatError: No plain Parquet file, or one with more than 32768 row groups, columns or
            pages.
        PolicyError: A column that is named is not there (output_missing).
        IntegrityError: It changed while it was read.
    """
    try:
        sealed = _seal(pinned, Sink(writer, algorithm), keys, path)
    except FormatError as error:
        raise FormatError(
            f"{path or 'the file'}: columns= encrypts plain Parquet files. {error}"
        ) from error
    pinned.check_unchanged()
    return sealed


def _seal(pinned: PinnedObject, sink: Sink, keys: ColumnKeys, path: str) -> Entry:
    plain = read_footer(pinned, layout.PLAIN_MAGIC)
    footer, _ = read_struct(plain)
    if layout.ALGORITHM in footer or layout.SIGNING_KEY in footer:
        raise FormatError("Parquet: it is encrypted already; write it plain")
    paths = layout.leaf_paths(footer)
    missing = sorted(keys.columns - {leaf[0] for leaf in paths})
    if missing:
        raise PolicyError(
            f"{path or 'the file'}: columns= names {missing[0]!r}, which is no top-level column of "
            "what the body wrote; a column that is misspelt would lie there without its key",
            why="output_missing",
        )
    layout.check_apart(footer)
    footer = without_extents(footer, keys.columns)
    sink.write(layout.SEALED_MAGIC)
    sealer = _Sealer(pinned, sink, keys, paths)
    groups = [
        sealer.group(ordinal, group)
        for ordinal, group in enumerate(footer.structs(layout.ROW_GROUPS))
    ]
    footer.put(layout.ROW_GROUPS, LIST, Items(STRUCT, groups))
    sealer.finish(footer)
    return sink.entry(path)


class _Sealer:
    """One file on its way."""

    def __init__(
        self, pinned: PinnedObject, sink: Sink, keys: ColumnKeys, paths: list[tuple[str, ...]]
    ) -> None:
        self._pinned, self._sink, self._paths = pinned, sink, paths
        self._file_id = keys.random_bytes(layout.FILE_ID_BYTES)
        self._footer = keys.fresh(FOOTER)
        # A key for each leaf: a chunk of one cannot stand for a chunk of another.
        self._own = {leaf: keys.fresh(leaf[0]) for leaf in paths if leaf[0] in keys.columns}

    def group(self, ordinal: int, group: Struct) -> Struct:
        """A row group's metadata once its pages are written."""
        chunks = group.structs(layout.COLUMNS)
        if len(chunks) != len(self._paths):
            raise FormatError("Parquet: a row group has another number of columns than the schema")
        begin = self._sink.at
        made = group.copy()
        sealed = [
            self._chunk(Place(file_id=self._file_id, group=ordinal, column=column), chunk)
            for column, chunk in enumerate(chunks)
        ]
        made.put(layout.COLUMNS, LIST, Items(STRUCT, sealed))
        # What a reader without a column's key cannot learn from that column.
        made.put(layout.GROUP_OFFSET, I64, begin)
        made.put(layout.GROUP_COMPRESSED, I64, self._sink.at - begin)
        made.put(layout.GROUP_ORDINAL, I16, ordinal)
        return made

    def finish(self, footer: Struct) -> None:
        """Write the footer, encrypted, and what says how to open it."""
        cipher, key_metadata = self._footer
        crypto = layout.CryptoFooter(file_id=self._file_id, key_metadata=key_metadata).as_bytes()
        sealed = cipher.seal(write_struct(footer), module_aad(self._file_id, Kind.FOOTER))
        length = len(crypto) + len(sealed)
        if length > layout.MAX_FOOTER_BYTES:
            raise FormatError(f"Parquet: a footer of {length} bytes; write larger row groups")
        self._sink.write(crypto)
        self._sink.write(sealed)
        self._sink.write(length.to_bytes(4, "little"))
        self._sink.write(layout.SEALED_MAGIC)

    def _chunk(self, place: Place, chunk: Struct) -> Struct:
        path = self._paths[place.column]
        if any(field in chunk for field in _NOT_PLAIN):
            raise FormatError("Parquet: a column lies in another file, or is encrypted already")
        meta = chunk.struct(layout.META)
        if layout.chunk_path(meta) != path:
            raise FormatError("Parquet: a row group has its columns in another order")
        cipher, key_metadata = self._own.get(path, self._footer)
        meta = self._pages(place, meta, cipher)
        made = chunk.copy()
        made.drop(*layout.PAGE_INDEX)
        made.put(layout.FILE_OFFSET, I64, layout.chunk_begin(meta))
        how = Struct()
        if path in self._own:
            how.put(layout.WITH_COLUMN_KEY, STRUCT, _column_key(meta, key_metadata))
            sealed = cipher.seal(write_struct(meta), place.aad(Kind.COLUMN_METADATA))
            made.put(layout.SEALED_META, BINARY, bytes(sealed))
            made.drop(layout.META)
        else:
            how.put(layout.WITH_FOOTER_KEY, STRUCT, Struct())
            made.put(layout.META, STRUCT, meta)
        made.put(layout.CRYPTO, STRUCT, how)
        return made

    def _pages(self, place: Place, meta: Struct, cipher: ModuleCipher) -> Struct:
        """Write a chunk's pages; returns its metadata with where they are now."""
        sink, begin, grown = self._sink, self._sink.at, 0
        made = meta.copy()
        made.drop(layout.INDEX_AT, layout.DICTIONARY_AT, *layout.BLOOM_FILTER)
        data_at: int | None = None
        for page in plain_pages(self._pinned, meta):
            if page.is_dictionary:
                made.put(layout.DICTIONARY_AT, I64, sink.at)
            elif data_at is None:
                data_at = sink.at
            grown += _write_page(sink, page, cipher, place)
        made.put(layout.DATA_AT, I64, sink.at if data_at is None else data_at)
        made.put(layout.COMPRESSED, I64, sink.at - begin)
        made.put(layout.UNCOMPRESSED, I64, meta.integer(layout.UNCOMPRESSED) + grown)
        return made


def _write_page(sink: Sink, page: Page, cipher: ModuleCipher, place: Place) -> int:
    """Returns the bytes by which encryption made it longer."""
    aads = place.page_aads((page.is_dictionary, page.ordinal))
    length = len(page.body) + OVERHEAD_BYTES
    header = layout.page_header(page.header, page.raw, length)
    # In place: copying each page would add half to what encrypting it costs.
    sink.fill(
        len(header) + OVERHEAD_BYTES, lambda module: cipher.seal_into(module, header, aads[0])
    )
    sink.fill(length, lambda module: cipher.seal_into(module, page.body, aads[1]))
    return 2 * OVERHEAD_BYTES


def _column_key(meta: Struct, key_metadata: bytes) -> Struct:
    made = Struct()
    made.fields[layout.KEY_PATH] = meta.fields[layout.PATH]
    made.put(layout.KEY_METADATA, BINARY, key_metadata)
    return made
