"""Sealed XCom values, the large ones in an object store: the back end of provider common.io below.

`[common.io] xcom_objectstorage_path`, `_threshold` and `_compression` mean what they mean there.
Whoever may write the database can name no object outside that path.
"""

from __future__ import annotations

import json
from typing import Any

from airflow.providers.common.io.xcom.backend import XComObjectStorageBackend
from airflow.sdk.configuration import conf

from airflow_secure_ml.errors import IntegrityError
from airflow_secure_ml.securing.surface import surfaced
from airflow_secure_ml.xcom.backend import SealedXComBackend


class SealedObjectStorageXComBackend(SealedXComBackend, XComObjectStorageBackend):
    """As SealedXComBackend; a sealed value over the threshold lies in the object store."""

    @classmethod
    def stored(cls, result: Any) -> Any:
        """The JSON value as it was written, from the object store if it lies there.

        Raises:
            IntegrityError: Its object is gone, or is no JSON; its address is not the value.
        """
        address = result.value
        if not _is_address(address):
            return address
        try:
            path: Any = cls._get_full_path(address)
            with path.open(mode="rb", compression="infer") as file:
                # Not with Airflow's decoder: it makes objects of what nobody has vouched for.
                return json.load(file)
        except (FileNotFoundError, TypeError, ValueError, RecursionError) as error:
            raise IntegrityError(
                "an XCom value in the object store: expected an object at its address, found "
                "none that can be read; it was removed, or the store cannot be reached"
            ) from RuntimeError(type(error).__name__)

    @classmethod
    def purge(cls, xcom: Any, *args: Any) -> None:
        """Remove a value's object.

        Raises:
            IntegrityError: Its address leads elsewhere; nothing was removed.
        """
        try:
            _is_address(xcom.value)
        except IntegrityError as error:
            raise surfaced(error) from None
        XComObjectStorageBackend.purge(xcom)


def _is_address(value: Any) -> bool:
    """Whether a stored value is an object's address; IntegrityError for one outside the path."""
    base = conf.get("common.io", "xcom_objectstorage_path", fallback=None)
    if not base or not isinstance(value, str) or not value.startswith(base.rstrip("/") + "/"):
        return False
    if ".." in value.split("/"):
        # Provider common.io compares texts, and would read or remove what it leads to.
        raise IntegrityError(
            "an XCom value in the object store: its address leads out of [common.io] "
            "xcom_objectstorage_path; it was written by somebody who is no task"
        )
    return True
