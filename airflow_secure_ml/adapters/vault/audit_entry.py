"""What one entry of Vault's audit device tells: a use of a key, a lease or a secret, or nothing.

Vault hides values by an HMAC; paths, request ids and the ids of leases in answers are in clear. An
entry is believed in nothing: every part may be of another type, or missing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow_secure_ml.core.audit.outside_use import REFUSED, UNANSWERED, USED, OutsideUse

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII)
_SHOWN_CHARS = 200
# Below a mount of Transit: where the key's name stands.
_KEY_AT = {
    **dict.fromkeys(("encrypt", "decrypt", "rewrap", "sign", "verify", "hmac", "cmac"), 1),
    **dict.fromkeys(("backup", "restore", "keys"), 1),
    **dict.fromkeys(("datakey", "export", "byok-export"), 2),
}
_KEYLESS = frozenset({"random", "hash", "config", "cache-config", "wrapping_key"})
_ON_A_KEY = {"rotate": "rotate", "config": "configure"}
_LEASE_ACTS = {
    "sys/leases/renew": "renew",
    "sys/renew": "renew",
    "sys/leases/revoke": "revoke",
    "sys/revoke": "revoke",
}
# Engines whose answers are no credentials.
_NO_CREDENTIALS = frozenset({"system", "cubbyhole", "identity", "transit", "kv", "ns_system", ""})


def time_ms(entry: Mapping[str, Any]) -> int | None:
    """When an entry was written, ms since 1970 UTC; None: it does not say."""
    found = _TIME.fullmatch(_text(entry.get("time"), 64))
    if found is None:
        return None
    try:
        seconds = datetime.fromisoformat(found[1] + found[3].replace("Z", "+00:00"))
        whole_s = (seconds - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
        return round(whole_s) * 1000 + int((found[2] or "0").ljust(3, "0")[:3])
    except (ValueError, OverflowError):
        return None


def namespace(entry: Mapping[str, Any]) -> str:
    """The namespace that it was asked in, without slashes around; empty: the root's."""
    return _text(_map(_map(entry.get("request")).get("namespace")).get("path")).strip("/")


def use_of(entry: Mapping[str, Any], at_ms: int) -> OutsideUse | None:
    """The use that an entry tells of; None: it is about something else.

    Args:
        entry: Of a request or of a response.
        at_ms: Its time.
    """
    request = _map(entry.get("request"))
    told = _what(request, _map(entry.get("response")))
    if told is None:
        return None
    kind, about = told
    auth, answer = _map(entry.get("auth")), _map(entry.get("response"))
    lease, hashed = _lease(request, answer)
    if kind in ("renew", "revoke") and lease and not about:
        about = lease.rpartition("/")[0]
    return OutsideUse(
        time_ms=at_ms,
        kind=kind,
        about=about[:1024],
        state=_state(entry, answer),
        units=_units(request),
        version=str(_number(_map(answer.get("data")).get("key_version")) or ""),
        lease="sha256:" + hashlib.sha256(lease.encode()).hexdigest() if lease else "",
        hashed=hashed,
        names_lease=bool(lease and hashed),
        request=_text(request.get("id")),
        accessor=_text(auth.get("accessor") or request.get("client_token_accessor")),
        display_name=_text(auth.get("display_name")),
        remote=_text(request.get("remote_address")),
    )


def request_id(entry: Mapping[str, Any]) -> str:
    """What a request and its response have in common; empty: nothing."""
    return _text(_map(entry.get("request")).get("id"))


def _what(request: Mapping[str, Any], answer: Mapping[str, Any]) -> tuple[str, str] | None:
    """Kind of use, and of what."""
    path = _text(request.get("path"), 2048)
    mount = _text(request.get("mount_point"), 1024).strip("/")
    engine, operation = _text(request.get("mount_type")), _text(request.get("operation"))
    rest = path[len(mount) + 1 :] if mount and path.startswith(f"{mount}/") else ""
    for prefix, kind in _LEASE_ACTS.items():
        if path == prefix or path.startswith(f"{prefix}/"):
            return kind, ""
    if engine == "transit":
        return _on_key(mount, rest, operation)
    if operation not in ("read", "create", "update"):
        return None
    if engine == "kv":
        is_read = operation == "read" and not rest.startswith(("metadata/", "config"))
        return ("read", path) if is_read else None
    if engine in _NO_CREDENTIALS or _text(request.get("mount_class")) == "auth":
        return None
    is_leased = "lease_id" in _map(answer.get("secret"))
    is_of_an_engine = "/creds/" in path or "/issue/" in path or "/static-creds/" in path
    return ("grant", path) if is_leased or is_of_an_engine or operation == "read" else None


def _on_key(mount: str, rest: str, operation: str) -> tuple[str, str] | None:
    parts = rest.split("/")
    head = parts[0]
    if head in _KEYLESS or operation == "list" or len(parts) < 2:
        return None
    at = min(_KEY_AT.get(head, len(parts) - 1), len(parts) - 1)
    if not parts[at]:
        return None
    about = f"{mount}/{parts[at]}"
    if head != "keys":
        return head, about
    if len(parts) > 2:
        return _ON_A_KEY.get(parts[2], parts[2]), about
    if operation == "read":
        return None
    return ("delete" if operation == "delete" else "create"), about


def _lease(request: Mapping[str, Any], answer: Mapping[str, Any]) -> tuple[str, str]:
    """A lease's id in clear, and as Vault hides it; empty: not there."""
    clear = _text(_map(answer.get("secret")).get("lease_id"), 2048)
    given = _text(_map(request.get("data")).get("lease_id"), 2048)
    path = _text(request.get("path"), 2048)
    for prefix in _LEASE_ACTS:
        if path.startswith(f"{prefix}/"):
            given = given or path.removeprefix(f"{prefix}/")
    if given.startswith("hmac-"):
        return clear, given[:_SHOWN_CHARS]
    return clear or given, ""


def _state(entry: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    if entry.get("type") != "response":
        return UNANSWERED
    is_error = set(_map(answer.get("data"))) == {"error"}
    return REFUSED if entry.get("error") or is_error else USED


def _units(request: Mapping[str, Any]) -> int:
    batch = _map(request.get("data")).get("batch_input")
    return max(1, len(batch)) if isinstance(batch, list) else 1


def _number(found: object) -> int | None:
    if not isinstance(found, int) or isinstance(found, bool):
        return None
    return found if 0 < found < 2**31 else None


def _text(found: object, at_most: int = _SHOWN_CHARS) -> str:
    if not isinstance(found, str):
        return ""
    # JSON may name halves of characters, which nothing can write.
    return found[:at_most].encode("utf-8", "replace").decode()


def _map(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}
