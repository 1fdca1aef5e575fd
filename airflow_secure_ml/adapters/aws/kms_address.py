"""The address of keys in AWS KMS: `awskms://alias/<name>`, `awskms://<key id or ARN>`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from airflow_secure_ml.errors import ConfigurationError

SCHEME = "awskms://"
ARN = re.compile(r"arn:aws[a-z-]*:kms:([a-z0-9-]+):[0-9]{12}:key/[A-Za-z0-9-]+", re.ASCII)
ALIAS = re.compile(r"alias/(?!aws/)[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*", re.ASCII)
_KEY_ID = re.compile(r"(?:mrk-)?[0-9a-f-]{32,36}", re.ASCII)
_QUERY = {
    "conn_id": re.compile(r"[A-Za-z0-9_.:#/-]{1,250}", re.ASCII),
    "region": re.compile(r"[a-z0-9-]{1,64}", re.ASCII),
    "grant_token": re.compile(r"[A-Za-z0-9+/=_-]{1,8192}", re.ASCII),
}
ALL_ALIASES = "alias"
# `alias/`, and a number behind a name.
MAX_ALIAS_CHARS = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsAddress:
    """An account's KMS in a region, or one key in it.

    Attributes:
        key: `alias/<name>`, a key's id or its ARN; None: the alias of our name for it.
        conn_id: The Airflow connection that leads there.
        region: None: the connection's.
        grant_token: Of a grant that is minutes old, so that it counts at once; None: none.
    """

    key: str | None
    conn_id: str
    region: str | None = None
    grant_token: str | None = None


def parse_kms_address(address: str, *, default_conn_id: str) -> KmsAddress:
    """Read `awskms://<key>?conn_id=<connection>&region=<region>&grant_token=<token>`.

    The parameters may be left out. `awskms://alias` stands for the aliases of all our names.

    Raises:
        ConfigurationError: Anything else in it; no parameter is shown.
    """
    where, has_query, text = address.removeprefix(SCHEME).partition("?")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True) if has_query else []
    except ValueError:
        raise _wrong(where) from None
    query = dict(pairs)
    right = (
        address.startswith(SCHEME)
        and bool(pairs) == bool(has_query)
        and len(query) == len(pairs)
        and all(name in _QUERY and _QUERY[name].fullmatch(value) for name, value in pairs)
        and (where == ALL_ALIASES or is_key(where))
    )
    region, arn = query.get("region"), ARN.fullmatch(where)
    if not right or (arn is not None and region not in (None, arn[1])):
        raise _wrong(where)
    return KmsAddress(
        key=None if where == ALL_ALIASES else where,
        conn_id=query.get("conn_id", default_conn_id),
        region=arn[1] if arn is not None else region,
        grant_token=query.get("grant_token"),
    )


def is_key(text: str) -> bool:
    """Whether a text is an alias, an id or an ARN of a key of one's own."""
    is_alias = len(text) <= MAX_ALIAS_CHARS and ALIAS.fullmatch(text)
    return bool(is_alias or _KEY_ID.fullmatch(text) or ARN.fullmatch(text))


def _wrong(where: str) -> ConfigurationError:
    shown = where[:60] if re.fullmatch(r"[A-Za-z0-9_:/-]*", where) else "…"
    return ConfigurationError(
        f"key system {SCHEME}{shown}: expected {SCHEME}alias/<name>, {SCHEME}<key id>, "
        f"{SCHEME}<key ARN>, or {SCHEME}{ALL_ALIASES} for the aliases of all names, then "
        "?conn_id=<connection>&region=<region>&grant_token=<token> as far as needed, and nothing "
        "else; an ARN's region is its own, and AWS' own keys (alias/aws/…) are not used"
    )
