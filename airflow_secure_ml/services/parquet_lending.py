"""Lend a reader of another make (Spark, Arrow) the keys of one artifact's columns.

The artifact is verified whole and every file's footer is read here first, by the rules that those
readers do not know; what is lent are keys of this artifact alone, never a wrap key.

Source: docs/parquet.md, Spark.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from airflow_secure_ml.core.manifest import Manifest
from airflow_secure_ml.core.ports import ObjectStore
from airflow_secure_ml.services.parquet_keys import ReaderKeys
from airflow_secure_ml.services.parquet_opening import choose, read_columns

KMS_CLASS = "airflow_secure_ml.LentKeys"
_FACTORY = "org.apache.parquet.crypto.keytools.PropertiesDrivenCryptoFactory"


@dataclass(frozen=True, slots=True, kw_only=True)
class LentKeys:
    """What opens the columns that a reader may read.

    Attributes:
        keys: Wrapped keys as they stand in the files, each with what it wraps.
        columns: The names that they open.
        left_out: Columns that may not be read, with their keys' names.
    """

    keys: Mapping[str, bytes]
    columns: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        return f"LentKeys({', '.join(self.columns)}; keys=***)"

    def spark_options(self) -> dict[str, str]:
        """Options of a Spark read; the one with keys is one that Spark itself masks."""
        lines = [
            f"{hashlib.sha256(text.encode()).hexdigest()} {base64.b64encode(key).decode()}"
            for text, key in self.keys.items()
        ]
        return {
            "parquet.crypto.factory.class": _FACTORY,
            "parquet.encryption.kms.client.class": KMS_CLASS,
            "parquet.encryption.key.access.token": "\n".join(lines),
        }


def lend_keys(
    store: ObjectStore,
    uri: str,
    manifest: Manifest,
    keys: ReaderKeys,
    *,
    columns: Collection[str] = (),
) -> LentKeys:
    """Read every file's footer and take the keys of the columns that may be read.

    Args:
        store: Where it lies.
        uri: Its canonical address.
        manifest: What was verified to lie there (`signing.verify_artifact`).
        keys: The reader's.
        columns: The only ones to lend keys of; empty: all that may be.

    Raises:
        SecureMLError: As `read_columns` and `choose`.
    """
    lent: dict[str, bytes] = {}
    names: dict[str, None] = {}
    left_out: dict[tuple[str, str], None] = {}
    for entry in manifest.entries:
        with store.open(store.child(uri, entry.path) if entry.path else uri) as pinned:
            found = read_columns(pinned, keys)
        keep = choose(found, columns)
        names |= dict.fromkeys(keep)
        lent[found.footer_key.kek.as_text()] = bytes(keys.kek(found.footer_key).key)
        for name, material in found.own.items():
            if name in keep:
                lent[material.kek.as_text()] = bytes(keys.kek(material).key)
            elif name in found.denied:
                left_out[name, material.key_name] = None
    return LentKeys(keys=lent, columns=tuple(names), left_out=tuple(left_out))
