"""Copy a plain object, its digest taken in the same pass."""

from __future__ import annotations

from airflow_secure_ml.core.digest import Digest, hasher
from airflow_secure_ml.core.manifest import Entry
from airflow_secure_ml.core.ports import ObjectWriter, PinnedObject

_BUFFER_BYTES = 1 << 20


def copy_plain(
    pinned: PinnedObject, writer: ObjectWriter, path: str, *, algorithm: str = "sha256"
) -> Entry:
    """Copy a pinned object into `writer`; the caller commits it.

    Args:
        pinned: What to copy.
        writer: Where to.
        path: Its relative name in the manifest.
        algorithm: Of the digest.

    Returns:
        Its entry for a manifest.

    Raises:
        IntegrityError: It changed while it was read.
    """
    state = hasher(algorithm)
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    offset = 0
    # No further than it was long: a file that grows as fast as it is read would never end.
    while (count := pinned.readinto_at(offset, buffer[: pinned.size_bytes - offset])) > 0:
        state.update(buffer[:count])
        writer.write_at(offset, buffer[:count])
        offset += count
    pinned.check_unchanged()
    digest = Digest(algorithm=algorithm, hex=state.hexdigest())
    return Entry(path=path, size_bytes=offset, digest=digest)
