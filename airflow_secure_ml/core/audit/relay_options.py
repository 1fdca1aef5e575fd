"""Read the options that say where a log's checkpoints go: quorum, anchor, time-stamp authority.

Witnesses are read by `cosignature.parse_witnesses`.
"""

from __future__ import annotations

import re

from airflow_secure_ml.core.audit.cosignature import MAX_WITNESSES
from airflow_secure_ml.errors import ConfigurationError

_QUORUM = re.compile(r"[1-9][0-9]?", re.ASCII)
# The store itself checks bucket and key; a connection's id goes into aws_conn_id or s3_connections.
_ANCHOR = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s/?#*\[\]@]+)+", re.ASCII)
_STAMP_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]{1,253}(/[^\s?#@]*)?", re.ASCII)


def parse_quorum(text: str) -> int:
    """How many witnesses have to have cosigned.

    Raises:
        ConfigurationError: Not a number from 1 to the most witnesses there may be.
    """
    if not _QUORUM.fullmatch(text) or int(text) > MAX_WITNESSES:
        raise ConfigurationError(f"found {text[:20]!r}; allowed: 1 to {MAX_WITNESSES}")
    return int(text)


def parse_anchor(text: str) -> str:
    """Where anchors go: `s3://bucket/prefix`; empty: nowhere.

    Raises:
        ConfigurationError: Another address.
    """
    if text and not _ANCHOR.fullmatch(text):
        raise ConfigurationError(f"found {text[:60]!r}; allowed: s3://bucket/prefix")
    return text


def parse_stamp_url(text: str) -> str:
    """Where time stamps come from; empty: nowhere.

    Plain HTTP is allowed: what is sent is a digest, and what comes back is signed.

    Raises:
        ConfigurationError: Not an address by HTTP, or one with a user, a query or a fragment.
    """
    if text and not _STAMP_URL.fullmatch(text):
        # Not the whole of it: before an @ may stand a password.
        raise ConfigurationError("allowed: an address such as https://tsa.example.org/tsr")
    return text
