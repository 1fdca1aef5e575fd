"""Say in words what stands behind a log beyond its own key, and what that proves.

Cosignatures are verified again here, over the log's own notes: what the relay wrote down is not
believed. No claim is made that AUDIT_TRAIL's first table does not make.

Source: AUDIT_TRAIL, What it proves, against whom.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from airflow_secure_ml.core.audit.checkpoint import Checkpoint, LogKey, open_checkpoint
from airflow_secure_ml.core.audit.cosignature import CosignerKey, Witness, cosigned_note, cosigners
from airflow_secure_ml.core.audit.ports import AuditReader
from airflow_secure_ml.core.audit.relaying import RelayBook
from airflow_secure_ml.core.audit.tiles import node_reader
from airflow_secure_ml.core.audit.tree import Edge
from airflow_secure_ml.errors import IntegrityError, PolicyError, SecureMLError

LOCAL = (
    "local signature only: a change by someone without the log key is noticed; whoever holds "
    "store and log key can write another history above the newest checkpoint kept elsewhere"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What stands behind a log.

    Attributes:
        text: The level in force, in words.
        of: How many witnesses are asked.
        quorum: How many of them have to have cosigned.
        size: The largest size that so many of them cosigned, at it or above; None: there is none.
        time_s: When the slowest of them did, seconds since 1970 UTC; None as `size`.
        problem: A cosignature that does not hold, or covers another history; empty: none.
    """

    text: str
    of: int
    quorum: int
    size: int | None = None
    time_s: int | None = None
    problem: str = ""


def witnessed(
    reader: AuditReader,
    book: RelayBook,
    log_keys: Sequence[LogKey],
    witnesses: Sequence[Witness],
    quorum: int,
) -> Standing:
    """How far enough witnesses stand behind the log.

    Args:
        reader: The log.
        book: What the relay brought back.
        log_keys: Keys that checkpoints are believed by.
        witnesses: Who is asked, and by which keys they are believed.
        quorum: How many of them have to have cosigned.
    """
    found, problems = [], []
    for each in witnesses:
        try:
            newest = _newest(reader, book, log_keys, each.key)
        except SecureMLError as error:
            problems.append(f"{each.key.name}: {error}")
            continue
        if newest is not None:
            found.append(newest)
    problem = "; ".join(problems)
    if len(found) < quorum or not witnesses:
        return _unmet(len(found), len(witnesses), quorum, problem)
    # A witness that cosigned a larger tree stands behind every smaller one too.
    size, _ = sorted(found, reverse=True)[quorum - 1]
    time_s = min(at for cosigned, at in found if cosigned >= size)
    count = sum(cosigned >= size for cosigned, _ in found)
    text = (
        f"witnessed by {count} of {len(witnesses)} ({quorum} needed) up to {size:,} events, since "
        f"{_when(time_s)}: that "
        "whoever holds store and log key changed one of these is noticed by whoever checks the "
        "cosignatures, unless the witnesses helped; later events have the local signature only"
    )
    return Standing(
        text=text, of=len(witnesses), quorum=quorum, size=size, time_s=time_s, problem=problem
    )


def _when(time_s: int) -> str:
    """A witness's clock may say anything."""
    try:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{time_s} s after 1970"


def _unmet(count: int, of: int, quorum: int, problem: str) -> Standing:
    text = LOCAL
    if of:
        text = f"{LOCAL}. {count} of {of} witnesses have cosigned, {quorum} are needed"
    return Standing(text=text, of=of, quorum=quorum, problem=problem)


def _newest(
    reader: AuditReader, book: RelayBook, log_keys: Sequence[LogKey], key: CosignerKey
) -> tuple[int, int] | None:
    """Size and time of a witness's newest cosignature, verified; None: there is none."""
    kept = book.last_cosigned(key.vkey())
    if kept is None:
        return None
    note = reader.checkpoint(at_most=kept.size)
    if note is None:
        raise IntegrityError(f"it cosigned {kept.size} leaves, the log has no such checkpoint")
    checkpoint = open_checkpoint(note, log_keys, origin=reader.origin())
    if checkpoint.size != kept.size:
        raise IntegrityError(f"it cosigned {kept.size} leaves, the log has no such checkpoint")
    times = cosigners(cosigned_note(note, [kept.line]), [key])
    if key.vkey() not in times:
        raise PolicyError("the line kept for it is not its own", why="signature_invalid")
    _check_stored(reader, checkpoint)
    return checkpoint.size, times[key.vkey()]


def _check_stored(reader: AuditReader, checkpoint: Checkpoint) -> None:
    if reader.size() < checkpoint.size:
        raise IntegrityError(f"it cosigned {checkpoint.size} leaves, the log has fewer")
    root = Edge.read(checkpoint.size, node_reader(reader.leaf_hashes, reader.tile)).root()
    if not hmac.compare_digest(root, checkpoint.root):
        raise IntegrityError(f"the log's first {checkpoint.size} leaves are not what it cosigned")
