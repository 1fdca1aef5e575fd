"""Lend a reader of another make (Spark, Arrow) the keys of one artifact's columns.

The artifact is verified whole and every file's footer is read here first, by the rules that those
readers do not know; what is lent are keys of this artifact alone, never a wrap key.

Source: docs/parquet.md, Spark.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from airflow_secure_ml.core.ports import KeyRef
from airflow_secure_ml.errors import FormatError, SecureMLError
from airflow_secure_ml.services.artifact import Artifact
from airflow_secure_ml.services.desk import Work
from airflow_secure_ml.services.found_inputs import FoundInput, as_refusal, find_input, object_facts
from airflow_secure_ml.services.journal import key_facts
from airflow_secure_ml.services.key_choice import opening_keys
from airflow_secure_ml.services.manifests import manifest_of
from airflow_secure_ml.services.parquet_inputs import forbidden
from airflow_secure_ml.services.parquet_keys import ReaderKeys
from airflow_secure_ml.services.parquet_opening import choose, read_columns
from airflow_secure_ml.services.run_plan import Input
from airflow_secure_ml.services.signing import Verified

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

    @property
    def secrets(self) -> tuple[str, ...]:
        """Each key as `spark_options` writes it: what logs must not show."""
        return tuple(base64.b64encode(key).decode() for key in self.keys.values())

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
    with contextlib.ExitStack() as held:
        # Pinned once: what is verified is what is read of it.
        found = find_input(work, item, held)
        act = "object.verify"
        try:
            verified = _verified(found)
            facts |= {"digest": verified.digest, "bytes": verified.manifest.size_bytes}
            signers = [str(ref) for ref in verified.signers[:8]]
            journal.did(act, object=facts, more={"signers": signers})
            act = "object.open"
            keys = ReaderKeys(
                found.object,
                opening_keys(desk.keys),
                forbids=lambda material: forbidden(work, item, material),
                state_of=desk.keys.state_of,
            )
            with keys:
                lent = lend_keys(found.artifact, keys, columns=columns)
        except (SecureMLError, FileNotFoundError) as error:
            refusal = as_refusal(item, error)
            journal.refused(act, refusal, object=facts)
            raise refusal from error.__cause__
    for ref in lent.refs:
        journal.did(act, object=facts, key=key_facts(ref))
    return lent


def _verified(found: FoundInput) -> Verified:
    """Hold what is pinned against its statement, all of it."""
    if not found.column_sealed:
        raise FormatError(
            f"{found.item.uri}: expected Parquet whose columns have keys of their own, found "
            "another file; open it with Reads"
        )
    assert found.candidates is not None
    return found.candidates.match(manifest_of(found.artifact, algorithm=found.candidates.algorithm))


def lend_keys(artifact: Artifact, keys: ReaderKeys, *, columns: Collection[str] = ()) -> LentKeys:
    """Read every file's footer and take the keys of the columns that may be read.

    Args:
        artifact: What was verified, pinned since.
        keys: The reader's.
        columns: The only ones to lend keys of; empty: all that may be.

    Raises:
        SecureMLError: As `read_columns` and `choose`.
    """
    lent: dict[str, bytes] = {}
    refs: dict[KeyRef, None] = {}
    names: dict[str, None] = {}
    left_out: dict[tuple[str, str], None] = {}
    for path in artifact.names():
        with artifact.open(path) as pinned:
            found = read_columns(pinned, keys)
            pinned.check_unchanged()
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
    # A file without rows says of no column that it has a key.
    denied = {name for name, _ in left_out}
    return LentKeys(
        keys=lent,
        refs=tuple(refs),
        columns=tuple(name for name in names if name not in denied),
        left_out=tuple(left_out),
    )
