"""Sealed XCom values, the large ones in an object store: the back end of provider common.io below.

`[common.io] xcom_objectstorage_path`, `_threshold` and `_compression` mean what they mean there.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.io.xcom.backend import XComObjectStorageBackend
from airflow.sdk.configuration import conf

from airflow_secure_ml.errors import IntegrityError
from airflow_secure_ml.securing.surface import surfaced
from airflow_secure_ml.xcom.backend import SealedXComBackend


class SealedObjectStorageXComBackend(SealedXComBackend, XComObjectStorageBackend):
    """As SealedXComBackend; a sealed value over the threshold lies in the object store."""

    @classmethod
    def deserialize_value(cls, result: Any) -> Any:
        """As SealedXComBackend; an object that is gone is an error and not its address."""
        value = super().deserialize_value(result)
        base = conf.get("common.io", "xcom_objectstorage_path", fallback=None)
        if base and value == result.value and isinstance(value, str) and value.startswith(base):
            raise surfaced(
                IntegrityError(
                    "an XCom value in the object store: expected an object at its address, found "
                    "none that can be read; it was removed, or the store cannot be reached"
                )
            )
        return value
