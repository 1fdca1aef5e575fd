"""What stands where in a Parquet file, plain or encrypted: magics, footers, columns, pages.

Only the fields that encrypting must read or change are known here; all others are carried over.

Source: parquet-format, parquet.thrift; docs/parquet.md, Bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_secure_ml.core.parquet.modules import MAX_I32
from airflow_secure_ml.core.parquet.thrift import (
    BINARY,
    I32,
    STRUCT,
    TRUE,
    Struct,
    read_struct,
    varint,
    write_struct,
)
from airflow_secure_ml.errors import FormatError

PLAIN_MAGIC, SEALED_MAGIC = b"PAR1", b"PARE"
MAGIC_BYTES = 4
# Length of the footer, little endian, and the magic.
TAIL_BYTES = 8
# parquet-java and Arrow do not go further: a length of gigabytes would be read before it is known.
MAX_FOOTER_BYTES = 256 << 20
FILE_ID_BYTES = 16
# Field 1, a struct (the algorithm), whose field 1 is a struct: AES_GCM_V1. 1c 2c would be CTR.
GCM_PREFIX = b"\x1c\x1c"

# FileMetaData
SCHEMA, ROW_GROUPS, KEY_VALUES, COLUMN_ORDERS, ALGORITHM, SIGNING_KEY = 2, 4, 5, 7, 8, 9
# SchemaElement
PHYSICAL_TYPE, NAME, CHILDREN = 1, 4, 5
# RowGroup
COLUMNS, SORTING, GROUP_OFFSET, GROUP_COMPRESSED, GROUP_ORDINAL = 1, 4, 5, 6, 7
TOTAL_BYTES = 2
# ColumnChunk
FILE_PATH, FILE_OFFSET, META, CRYPTO, SEALED_META = 1, 2, 3, 8, 9
PAGE_INDEX = (4, 5, 6, 7)
# ColumnMetaData
PATH, UNCOMPRESSED, COMPRESSED, DATA_AT, INDEX_AT, DICTIONARY_AT = 3, 6, 7, 9, 10, 11
BLOOM_FILTER = (14, 15)
# ColumnCryptoMetaData, a union; EncryptionWithColumnKey
WITH_FOOTER_KEY, WITH_COLUMN_KEY = 1, 2
KEY_PATH, KEY_METADATA = 1, 2
# PageHeader
# A field one above the last, of type i32.
_SHORT_I32 = 0x15
PAGE_TYPE, PAGE_COMPRESSED, PAGE_CRC = 1, 3, 4
DATA_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2 = 0, 2, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class CryptoFooter:
    """What stands in the open in an encrypted file.

    Attributes:
        file_id: `aad_file_unique`.
        key_metadata: Which key opens the footer.
    """

    file_id: bytes
    key_metadata: bytes

    def as_bytes(self) -> bytes:
        """FileCryptoMetaData in Thrift."""
        gcm = Struct()
        gcm.put(2, BINARY, self.file_id)
        # Said for parquet-java, which asks the field without looking whether it is there.
        gcm.put(3, TRUE, False)
        algorithm, whole = Struct(), Struct()
        algorithm.put(1, STRUCT, gcm)
        whole.put(1, STRUCT, algorithm)
        whole.put(2, BINARY, self.key_metadata)
        return write_struct(whole)

    @classmethod
    def parse(cls, footer: bytes) -> tuple[CryptoFooter, int]:
        """Read it from the beginning of a footer; returns it and where it ends.

        Raises:
            FormatError: Not AES_GCM_V1, or anything that `as_bytes` does not write.
        """
        if footer[:2] != GCM_PREFIX:
            raise FormatError(
                "Parquet: its encryption is not AES_GCM_V1 (1c 1c); other algorithms leave pages "
                "unauthenticated and are never opened"
            )
        whole, end = read_struct(footer)
        gcm = whole.struct(1).struct(1)
        found = cls(file_id=gcm.binary(2), key_metadata=whole.binary(2))
        if found.as_bytes() != footer[:end] or len(found.file_id) != FILE_ID_BYTES:
            raise FormatError("Parquet: its FileCryptoMetaData is not as this package writes it")
        return found, end


def footer_bytes(tail: bytes, size_bytes: int, magic: bytes) -> int:
    """Length of the footer, from a file's last 8 bytes.

    Args:
        tail: The file's last 8 bytes.
        size_bytes: The file's length.
        magic: What it must end with.

    Raises:
        FormatError: Another magic, or a length that the file cannot have.
    """
    if tail[4:] != magic:
        raise FormatError(f"Parquet: expected the magic {magic.decode()} at its end")
    length = int.from_bytes(tail[:4], "little")
    if not 0 < length <= min(MAX_FOOTER_BYTES, size_bytes - MAGIC_BYTES - TAIL_BYTES):
        raise FormatError(f"Parquet: a footer of {length} bytes in a file of {size_bytes}")
    return length


def leaf_paths(footer: Struct) -> list[tuple[str, ...]]:
    """The path of each column, in the schema's order; the first part is the top-level name.

    Raises:
        FormatError: The schema is no tree, a name is not UTF-8, or a top-level name stands twice.
    """
    elements = footer.structs(SCHEMA)
    paths: list[tuple[str, ...]] = []
    # (names above, children left)
    open_groups: list[tuple[tuple[str, ...], int]] = []
    for place, element in enumerate(elements):
        above: tuple[str, ...] = ()
        if place > 0:
            while open_groups and open_groups[-1][1] == 0:
                open_groups.pop()
            if not open_groups:
                raise FormatError("Parquet: its schema has more elements than its root counts")
            above, left = open_groups[-1]
            open_groups[-1] = (above, left - 1)
            above = (*above, _name(element))
        if _is_group(element):
            open_groups.append((above, _children(element, len(elements))))
        elif place > 0:
            paths.append(above)
    if not elements or any(left for _, left in open_groups):
        raise FormatError("Parquet: its schema has fewer elements than it counts")
    _check_roots(elements)
    return paths


def _is_group(element: Struct) -> bool:
    # Some writers count a leaf's children, too: none.
    return PHYSICAL_TYPE not in element


def _children(element: Struct, limit: int) -> int:
    count = element.integer(CHILDREN)
    if not 0 <= count < limit:
        raise FormatError(f"Parquet: a schema element with {count} children")
    return count


def _check_roots(elements: list[Struct]) -> None:
    names = [_name(elements[at]) for at, _ in root_spans(elements)]
    if len(set(names)) < len(names):
        raise FormatError("Parquet: two top-level columns have one name; rename one")


def root_spans(elements: list[Struct]) -> list[tuple[int, int]]:
    """Begin and end of each top-level column among a schema's elements (of a tree, checked)."""
    spans, at = [], 1
    while at < len(elements):
        begin, due = at, 1
        while due and at < len(elements):
            due += elements[at].integer(CHILDREN) - 1 if _is_group(elements[at]) else -1
            at += 1
        spans.append((begin, at))
    return spans


def _name(element: Struct) -> str:
    try:
        return element.binary(NAME).decode()
    except UnicodeDecodeError as error:
        raise FormatError("Parquet: a column's name is not UTF-8") from error


def page_header(header: Struct, raw: bytes | bytearray, length: int) -> bytes:
    """A page's header for a body of another length; its checksum, of other bytes, left out.

    Args:
        header: As read.
        raw: The bytes that it was read from.
        length: Of the new body.

    Raises:
        FormatError: A length that the header cannot say.
    """
    if not 0 <= length <= MAX_I32:
        raise FormatError(f"Parquet: a page of {length} bytes is longer than the format can say")
    # Pages are many and their statistics long: mostly one number is exchanged in the bytes.
    if PAGE_CRC not in header and raw[0] == _SHORT_I32:
        begin = _behind_field(raw, _behind_field(raw, 0)) if _is_short(raw) else 0
        if begin and raw[begin] == _SHORT_I32:
            end = _behind_field(raw, begin)
            return bytes(raw[: begin + 1]) + varint(2 * length) + bytes(raw[end:])
    made = header.copy()
    made.drop(PAGE_CRC)
    made.put(PAGE_COMPRESSED, I32, length)
    return write_struct(made)


def _is_short(raw: bytes | bytearray) -> bool:
    """Whether the first two fields are 1 and 2, as every writer has them."""
    return raw[0] == _SHORT_I32 == raw[_behind_field(raw, 0)]


def _behind_field(raw: bytes | bytearray, at: int) -> int:
    at += 1
    while raw[at] > 0x7F:
        at += 1
    return at + 1


def chunk_path(meta: Struct) -> tuple[str, ...]:
    """Which column a chunk's metadata is about."""
    return path_of(meta.binaries(PATH))


def path_of(names: list[bytes]) -> tuple[str, ...]:
    """A path from its names' bytes; FormatError: not UTF-8."""
    try:
        return tuple(name.decode() for name in names)
    except UnicodeDecodeError as error:
        raise FormatError("Parquet: a column's name is not UTF-8") from error


def chunk_begin(meta: Struct) -> int:
    """Where a chunk's first page begins: its dictionary, if it has one."""
    data_at = meta.integer(DATA_AT)
    dictionary_at = meta.integer(DICTIONARY_AT) if DICTIONARY_AT in meta else 0
    # Old writers say 0 for no dictionary, Arrow for no data behind one, as in a table without rows.
    if dictionary_at > 0 and not 0 < data_at <= dictionary_at:
        return dictionary_at
    return data_at


def check_apart(footer: Struct) -> None:
    """Refuse chunks that share bytes: pages of one column would lie there under another's key too.

    Raises:
        FormatError: They do.
    """
    metas = [
        chunk.struct(META)
        for group in footer.structs(ROW_GROUPS)
        for chunk in group.structs(COLUMNS)
    ]
    behind = 0
    for begin, length in sorted((chunk_begin(meta), meta.integer(COMPRESSED)) for meta in metas):
        if length > 0 and begin < behind:
            raise FormatError("Parquet: two column chunks overlap")
        behind = max(behind, begin + length)
