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
from airflow_secure_ml.core.ports import KeyRef, ObjectStore
from airflow_secure_ml.errors import SecureMLError
from airflow_secure_ml.services.desk import Work
from airflow_secure_ml.services.journal import key_facts
from airflow_secure_ml.services.key_choice import opening_keys
from airflow_secure_ml.services.parquet_inputs import forbidden
from airflow_secure_ml.services.parquet_keys import ReaderKeys
from airflow_secure_ml.services.parquet_opening import choose, read_columns
from airflow_secure_ml.services.run_plan import Input
from airflow_secure_ml.services.secured_inputs import demand_for, object_facts
from airflow_secure_ml.services.signing import verify_artifact

KMS_CLASS = "airflow_secure_ml.LentKeys"
_FACTORY = "org.apache.parquet.crypto.keytools.PropertiesDrivenCryptoFactory"


@dataclass(frozen=True, slots=True, kw_only=True)
class LentKeys:
    """What opens the columns that a reader may read.

    Attributes:
        keys: Wrapped keys as they stand in the files, each with what it wraps.
        refs: The versions that opened them.
        columns: The names that they open.
        left_out: Columns that may not be read, with their keys' names.
    """

    keys: Mapping[str, bytes]
    refs: tuple[KeyRef, ...]
    columns: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        return f"LentKeys({', '.join(self.columns)}; keys=***)"

    def __reduce__(self) -> str:
        # A pickle would carry keys into an XCom or a queue.
        raise TypeError("LentKeys holds keys and cannot be pickled")

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


def lend_columns(work: Work, item: Input, columns: Collection[str]) -> LentKeys:
    """Verify an input where it lies and lend the keys of its columns; each act is recorded.

    Args:
        work: The run; its plan's reads are not opened.
        item: What to lend keys of.
        columns: As in `lend_keys`.

    Raises:
        SecureMLError: It is refused, or another system failed; recorded.
    """
    desk, journal, facts = work.desk, work.journal, object_facts(item)
    store = desk.store(item.uri)
    act = "object.verify"
    try:
        if desk.rules is not None:
            decision = desk.rules.decide_read(
                item.uri, dag_id=work.plan.dag_id or None, sealed=True, key=None, today=work.today
            )
            work.obey(decision, "read", item.name)
        demand = demand_for(work, item)
        verified = verify_artifact(store, item.uri, demand)
        facts |= {"digest": verified.digest, "bytes": verified.manifest.size_bytes}
        journal.did(act, object=facts, more={"signers": [str(ref) for ref in verified.signers[:8]]})
        act = "object.open"
        keys = ReaderKeys(
            demand.same_as or item.uri,
            opening_keys(desk.keys),
            forbids=lambda material: forbidden(work, item, material),
            state_of=desk.keys.state_of,
        )
        with keys:
            lent = lend_keys(store, item.uri, verified.manifest, keys, columns=columns)
    except SecureMLError as error:
        journal.refused(act, error, object=facts)
        raise
    for ref in lent.refs:
        journal.did(act, object=facts, key=key_facts(ref))
    return lent


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
    refs: dict[KeyRef, None] = {}
    names: dict[str, None] = {}
    left_out: dict[tuple[str, str], None] = {}
    for entry in manifest.entries:
        with store.open(store.child(uri, entry.path) if entry.path else uri) as pinned:
            found = read_columns(pinned, keys)
        keep = choose(found, columns)
        names |= dict.fromkeys(keep)
        opened = [found.footer_key, *(own for name, own in found.own.items() if name in keep)]
        for material in opened:
            kek = keys.kek(material)
            lent[material.kek.as_text()] = bytes(kek.key)
            refs[kek.ref] = None
        for name, material in found.own.items():
            if name in found.denied:
                left_out[name, material.key_name] = None
    return LentKeys(keys=lent, refs=tuple(refs), columns=tuple(names), left_out=tuple(left_out))
