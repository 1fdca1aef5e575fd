"""What only pyarrow can do: prune Arrow's own schema, and read with keys that were lent.

Source: Apache Arrow, Parquet Modular Encryption (pyarrow.parquet.encryption).
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Collection, Mapping
from typing import Any


def arrow_fields(encoded: bytes, keep: Collection[str]) -> bytes | None:
    """Arrow's schema, as it stands in a footer, with these top-level fields only.

    Args:
        encoded: Base64 of the schema's message.
        keep: Names.

    Returns:
        The smaller one in the same form; None: it is no schema that this release can read.
    """
    import pyarrow as pa

    try:
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(encoded)))
    except (ValueError, OSError, pa.ArrowException):
        return None
    kept = pa.schema([field for field in schema if field.name in keep])
    return base64.b64encode(kept.serialize().to_pybytes())


def decryption_properties(lent: Mapping[str, bytes]) -> Any:
    """What `pyarrow.parquet.ParquetFile(…, decryption_properties=…)` takes.

    pyarrow looks at no signature, and one changed byte makes it accept altered pages: only for a
    file whose digest was held against a signed one just before (`services.parquet_lending`).

    Args:
        lent: Wrapped keys as they stand in the file, each with what it wraps.
    """
    import pyarrow.parquet.encryption as pe

    class _Lent(pe.KmsClient):  # type: ignore[misc] # pyarrow has no types
        def __init__(self, config: Any) -> None:
            pe.KmsClient.__init__(self)

        def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
            raise PermissionError("these keys are lent for reading")

        def unwrap_key(self, wrapped_key: Any, master_key_identifier: str) -> bytes:
            text = wrapped_key.decode() if isinstance(wrapped_key, bytes) else wrapped_key
            if text not in lent:
                raise PermissionError(f"key {master_key_identifier} was not lent to this reader")
            return bytes(lent[text])

    factory = pe.CryptoFactory(_Lent)
    return factory.file_decryption_properties(
        pe.KmsConnectionConfig(), pe.DecryptionConfiguration(cache_lifetime=dt.timedelta(minutes=5))
    )
