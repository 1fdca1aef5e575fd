"""Read how many witnesses have to have cosigned; who they are, `cosignature` reads."""

from __future__ import annotations

import re

from airflow_secure_ml.core.audit.cosignature import MAX_WITNESSES
from airflow_secure_ml.errors import ConfigurationError

_QUORUM = re.compile(r"[1-9][0-9]?", re.ASCII)


def parse_quorum(text: str) -> int:
    """How many witnesses have to have cosigned.

    Raises:
        ConfigurationError: Not a number from 1 to the most witnesses there may be.
    """
    if not _QUORUM.fullmatch(text) or int(text) > MAX_WITNESSES:
        raise ConfigurationError(f"found {text[:20]!r}; allowed: 1 to {MAX_WITNESSES}")
    return int(text)
