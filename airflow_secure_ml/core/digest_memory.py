"""Digests of files that were read before, each with what the file system said of its file then.

Only the layout: whether a file is still the one that was read is `adapters.local_objects`' part.
Nobody signs it: who can write it can have any bytes taken for those that were signed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from airflow_secure_ml.core.digest import ALGORITHMS, Digest, digest_of
from airflow_secure_ml.core.manifest import MAX_FILES, MAX_PATH_BYTES, Entry
from airflow_secure_ml.errors import FormatError

# Far above what MAX_FILES ordinary paths need.
MAX_MEMORY_BYTES = 64 << 20
_MAGIC, _VERSION = b"asml-dig", 1
# magic, version, algorithm, boot id, length of the address, number of files
_HEAD = struct.Struct(">8sBB16sHI")
# device, inode, bytes, mtime_ns, ctime_ns, mode; payload's bytes, digest, sealed, core_id, path's
_ROW = struct.Struct(">QQQqqIQ32sB32sH")
_CHECK_BYTES = 32
_PLAIN = bytes(32)

# device, inode, bytes, mtime and ctime in nanoseconds since 1970 UTC, mode; a tuple, since a
# re-check makes and compares one a file.
Identity = tuple[int, int, int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is remembered of one artifact.

    Attributes:
        uri: The artifact's canonical address.
        boot_id: 16 bytes, another after each start of the machine.
        algorithm: Of all digests.
        files: By relative path: the file's identity when it was read, and what was read.
    """

    uri: str
    boot_id: bytes
    algorithm: str
    files: Mapping[str, tuple[Identity, Entry]]


def encode_memory(memory: Memory) -> bytes:
    """The one form of a memory, files by the bytes of their paths.

    Raises:
        FormatError: More files, or longer paths, than one may hold.
    """
    uri, paths = memory.uri.encode(), sorted(path.encode() for path in memory.files)
    if len(paths) > MAX_FILES or len(uri) > 0xFFFF:
        raise FormatError(f"digest memory: {len(paths)} files, at most {MAX_FILES}")
    algorithm = ALGORITHMS.index(memory.algorithm)
    head = _HEAD.pack(_MAGIC, _VERSION, algorithm, memory.boot_id, len(uri), len(paths))
    rows = b"".join(_row(path, *memory.files[path.decode()]) for path in paths)
    data = b"".join((head, uri, rows, *paths))
    data += bytes.fromhex(digest_of([data]).hex)
    if len(data) > MAX_MEMORY_BYTES:
        raise FormatError(f"digest memory: {len(data)} bytes, at most {MAX_MEMORY_BYTES}")
    return data


def decode_memory(data: bytes) -> Memory:
    """Read what `encode_memory` gave.

    Raises:
        FormatError: Damaged, of another version, or not in its one form.
    """
    if not _HEAD.size + _CHECK_BYTES <= len(data) <= MAX_MEMORY_BYTES:
        raise FormatError(f"digest memory: {len(data)} bytes are none")
    body = memoryview(data)[:-_CHECK_BYTES]
    if bytes.fromhex(digest_of([body]).hex) != data[-_CHECK_BYTES:]:
        raise FormatError("digest memory: damaged, its own digest is another")
    magic, version, algorithm, boot_id, uri_bytes, count = _HEAD.unpack_from(body)
    if (magic, version) != (_MAGIC, _VERSION) or algorithm >= len(ALGORITHMS):
        raise FormatError(f"digest memory: version {version}, this release reads {_VERSION}")
    rows_at = _HEAD.size + uri_bytes
    names_at = rows_at + count * _ROW.size
    if count > MAX_FILES or names_at > len(body):
        raise FormatError(f"digest memory: {count} files in {len(data)} bytes")
    files = dict(_files(body[rows_at:names_at], bytes(body[names_at:]), ALGORITHMS[algorithm]))
    uri = _text(bytes(body[_HEAD.size : rows_at]))
    return Memory(uri=uri, boot_id=boot_id, algorithm=ALGORITHMS[algorithm], files=files)


def _row(path: bytes, identity: Identity, entry: Entry) -> bytes:
    core_id = _PLAIN if entry.core_id is None else bytes.fromhex(entry.core_id)
    return _ROW.pack(
        *identity,
        entry.size_bytes,
        bytes.fromhex(entry.digest.hex),
        entry.core_id is not None,
        core_id,
        len(path),
    )


def _files(
    rows: memoryview, names: bytes, algorithm: str
) -> Iterator[tuple[str, tuple[Identity, Entry]]]:
    at, before = 0, b""
    for number, row in enumerate(_ROW.iter_unpack(rows)):
        size_bytes, digest, sealed, core_id, path_bytes = row[6:]
        path, at = names[at : at + path_bytes], at + path_bytes
        if at > len(names) or path_bytes > MAX_PATH_BYTES or (number and path <= before):
            raise FormatError("digest memory: paths out of order, or cut off")
        if sealed > 1 or (not sealed and core_id != _PLAIN):
            raise FormatError("digest memory: a plain file with a core_id")
        before, text = path, _text(path)
        entry = Entry(
            path=text,
            size_bytes=size_bytes,
            digest=Digest(algorithm=algorithm, hex=digest.hex()),
            core_id=core_id.hex() if sealed else None,
        )
        yield text, (row[:6], entry)
    if at != len(names):
        raise FormatError("digest memory: more after its last path")


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FormatError("digest memory: a name that is not UTF-8") from error
