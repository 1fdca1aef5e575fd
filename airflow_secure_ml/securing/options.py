"""What a DAG author types: Reads, Writes, Lease, and the Reference that travels by XCom.

Values only; importing this imports neither Airflow nor anything slow.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from airflow.sdk import Asset
    from airflow.sdk.definitions.xcom_arg import XComArg

    Address = str | os.PathLike[str] | Asset | Mapping[str, Any] | XComArg
    Suite = str | os.PathLike[str] | Callable[[], Any]

_EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Reads:
    """One input of a secured task.

    Attributes:
        source: Its address; None: the caller passes it as the argument of that name.
        signed_by: Names of sign keys of which one must have signed it; None: the rule for its
            prefix, then `[secure_ml] trusted_signers`.
        expect: A suite of expectations (a JSON file's path from the DAG file's folder, or a
            callable that the worker calls); checked unless the signed statement says that this
            very suite passed on these very bytes.
        quarantine: An address where rows that fail are sealed; the rest go on.
        sealed: False: a plain object is accepted too.
        stream: The body gets a seekable binary file, decrypted as it is read; nothing lies in
            scratch.
        context: Pairs that the encryption context must hold, besides `object`.
        columns: Of a Parquet file with column keys: the only columns that the body gets; one
            whose key it may not use is a refusal. Empty: all that it may read.
    """

    source: Address | None = None
    signed_by: str | Collection[str] | None = None
    expect: Suite | None = None
    quarantine: Address | None = None
    sealed: bool = True
    stream: bool = False
    context: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    columns: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Writes:
    """One output of a secured task.

    Attributes:
        target: Its address; None: the caller passes it as the argument of that name.
        key: Name of the wrap key it is sealed to; None: the rule for its prefix, then
            `[secure_ml] data_key`.
        expect: A suite checked before anything is published.
        sealed: False: signed and published plain.
        asset: An asset whose event carries the Reference to what was written.
        context: Pairs added to the encryption context: object, dag_id, task_id, run_id, map_index.
        columns: For Parquet: top-level columns with a wrap key of their own, such as
            `{"ssn": "pii"}`; all others are under `key`. Empty: the file is sealed whole.
    """

    target: Address | None = None
    key: str | None = None
    expect: Suite | None = None
    sealed: bool = True
    asset: Asset | None = None
    context: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    columns: Mapping[str, str] = field(default_factory=lambda: _EMPTY)


@dataclass(frozen=True, slots=True)
class Lease:
    """A credential that lives as long as the task.

    Attributes:
        path: Where Vault makes it, such as `database/creds/reader`; a template may stand in it.
        conn_id: The Airflow connection that takes it; None: the entry's name.
        data: What the engine needs with the request, such as `common_name` for a certificate;
            templates may stand in it.
        vault_conn_id: The connection to Vault; None: `[secure_ml] vault_conn_id`.
    """

    path: str
    conn_id: str | None = None
    data: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    vault_conn_id: str | None = None


class Reference(TypedDict):
    """What a write leaves in XCom and in its asset's event: where it is and what it must be.

    Holds no key and no data. `digest` is that of the signed manifest, so whoever follows the
    reference gets these bytes or a refusal.
    """

    secure_ml: int
    name: str
    uri: str
    version: str
    digest: str
    bytes: int
    rows: int | None
    key: str | None
    signed_by: list[str]
    event: str


REFERENCE_VERSION = 1


def is_asset(value: object) -> bool:
    """Whether a value is an Airflow asset; asked before PathLike, which an asset is too."""
    return type(value).__name__ == "Asset"


def is_reference(value: object) -> bool:
    """Whether a value looks like a Reference of any version."""
    return isinstance(value, Mapping) and "secure_ml" in value
