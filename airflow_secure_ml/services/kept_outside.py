"""Say in words what anchors and time stamps add to a log's standing.

An anchor is told by the relay's own account, since only its store can confirm it; a time stamp is
verified again.

Source: AUDIT_TRAIL, What it proves, against whom.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from airflow_secure_ml.core.audit.checkpoint import LogKey
from airflow_secure_ml.core.audit.relaying import RelayBook, Stamper
from airflow_secure_ml.errors import SecureMLError
from airflow_secure_ml.services.anchoring import last_anchor
from airflow_secure_ml.services.stamping import newest_stamp


def kept_outside(
    book: RelayBook,
    *,
    anchor: str,
    stamper: Callable[[], Stamper | None],
    log_keys: Sequence[LogKey],
    origin: str,
) -> Sequence[str]:
    """One sentence for each thing that the settings ask for.

    Args:
        book: What the relay brought back.
        anchor: Where anchors go, as the settings say; empty: nowhere.
        stamper: Gives who stamps; None: nobody.
        log_keys: Keys that checkpoints are believed by.
        origin: The log's name.
    """
    return [*_anchored(book, anchor), *_stamped(book, stamper, log_keys, origin)]


def _anchored(book: RelayBook, anchor: str) -> Sequence[str]:
    if not anchor:
        return []
    bucket, _, prefix = anchor.removeprefix("s3://").rpartition("@")[2].partition("/")
    uri = f"s3://{bucket}/{prefix}"
    last = last_anchor(book, uri)
    if last is None:
        return [f"nothing is anchored at {uri} yet"]
    return [
        f"anchored at {uri} up to {last.size:,} events, since {_when(last.time_ms)}, locked until "
        f"{_when(last.until_ms)}, by the relay's account; `secure-ml audit verify --anchor` reads "
        "it back and holds the log against it"
    ]


def _stamped(
    book: RelayBook,
    stamper: Callable[[], Stamper | None],
    log_keys: Sequence[LogKey],
    origin: str,
) -> Sequence[str]:
    try:
        authority = stamper()
        if authority is None:
            return []
        found = newest_stamp(book, authority, log_keys, origin)
    except SecureMLError as error:
        return [f"the newest time stamp does not hold: {error}"]
    if found is None:
        return [f"no time stamp of {authority.url} yet"]
    return [
        f"a checkpoint over {found.size:,} events was there by {_when(found.time_ms)}, says the "
        f"time stamp of {authority.url}"
    ]


def _when(time_ms: int) -> str:
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{time_ms} ms since 1970"
