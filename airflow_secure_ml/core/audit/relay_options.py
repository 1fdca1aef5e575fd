"""Read the relay's options: how many witnesses, where anchors go, who stamps the time.

Who the witnesses are, `cosignature` reads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_secure_ml.core.audit.cosignature import MAX_WITNESSES, check_url
from airflow_secure_ml.errors import ConfigurationError

_QUORUM = re.compile(r"[1-9][0-9]?", re.ASCII)
_DAYS = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
MAX_DAYS = 36_500
# A prefix has to be left for the name of a log and of a checkpoint in a key of 1024 bytes.
_ANCHOR = re.compile(
    r"s3://([A-Za-z0-9_.-]{1,200}@)?[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_=.-]{1,100}){1,5}",
    re.ASCII,
)
_POLICY = re.compile(r"[0-2](\.(0|[1-9][0-9]{0,15})){1,20}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class StampServer:
    """Who stamps the time.

    Attributes:
        url: Its address.
        policy: The policy that its stamps have to name, dotted; empty: any.
    """

    url: str
    policy: str = ""


def parse_quorum(text: str) -> int:
    """How many witnesses have to have cosigned.

    Raises:
        ConfigurationError: Not a number from 1 to the most witnesses there may be.
    """
    if not _QUORUM.fullmatch(text) or int(text) > MAX_WITNESSES:
        raise ConfigurationError(f"found {text[:20]!r}; allowed: 1 to {MAX_WITNESSES}")
    return int(text)


def parse_anchor(text: str) -> str:
    """Where anchors go, `s3://bucket/prefix`; empty: nowhere.

    Raises:
        ConfigurationError: Another form, or no prefix.
    """
    text = text.rstrip("/")
    parts = text.split("/")
    if text and (not _ANCHOR.fullmatch(text) or "." in parts or ".." in parts):
        raise ConfigurationError(
            "expected s3://bucket/prefix, or s3://connection@bucket/prefix; a prefix of letters, "
            "digits, `_`, `=`, `.`, `-` for this log alone"
        )
    return text


def parse_anchor_days(text: str) -> int:
    """How many days an anchor is locked.

    Raises:
        ConfigurationError: Not a number from 1 to a hundred years.
    """
    if not _DAYS.fullmatch(text) or int(text) > MAX_DAYS:
        raise ConfigurationError(f"found {text[:20]!r}; allowed: 1 to {MAX_DAYS}")
    return int(text)


def parse_stamp_server(text: str) -> StampServer | None:
    """Read `url` or `url policy`; None: nobody stamps.

    Raises:
        ConfigurationError: Another form, or an address neither https:// nor on this machine.
    """
    words = text.split()
    if not words:
        return None
    if len(words) > 2 or (len(words) == 2 and not _POLICY.fullmatch(words[1])):
        raise ConfigurationError("expected `url`, or `url policy` such as 1.3.6.1.4.1.4146.2.3")
    return StampServer(url=check_url(words[0], "it"), policy="".join(words[1:]))
