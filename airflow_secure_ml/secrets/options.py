"""The back end's `backend_kwargs`, read as its options: the official back end's, and our own.

Nothing is connected here. What would be a risk is refused, and with it every look-up: plain http
unless `allow_http` is set, `verify: false`, and logins that write Vault's configuration.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.core.stored_secret import KINDS, SecretRule, parse_secret_rules
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.get_provider_info import vault_fields
from airflow_secure_ml.hooks.connections import ConnectionFields
from airflow_secure_ml.services.secret_reading import Limits

WHERE = "[secrets] backend_kwargs"
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
# A scheduler should not stand still for as long as a task may wait.
_DEADLINE_S = 10.0
# The official back end's defaults, where they differ from nothing.
_PATHS = {"connections": "connections", "variables": "variables", "config": "config"}
# For logins that this package does not have; empty ones are taken, as generated files hold them.
_OTHER_LOGINS = (
    "gcp_key_path", "gcp_keyfile_dict", "gcp_scopes", "azure_tenant_id", "azure_resource",
    "radius_host", "radius_secret", "radius_port",
)  # fmt: skip
_OWN = (
    "absent", "cache_size", "cache_ttl_s", "config_path", "connections_path",
    "global_secrets_path", "kv_engine_version", "lookups_per_s", "mount_point", "rules",
    "use_team_secrets_path", "variables_path",
)  # fmt: skip
_LOGIN = (
    "assume_role_kwargs", "cert", "key_id", "password", "secret_id", "token", "url", "username",
    "verify", "timeout",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the back end does.

    Attributes:
        connection: Where Vault is and how to log in.
        paths: By kind, where secrets are looked for, in order; None: Vault is not asked.
        mount: Where the KV engine is mounted; None: each name begins with a mount.
        kv_version: 1 or 2.
        team_paths: Whether a team's secrets lie below its name.
        absent: By kind, whether a secret that is not there is denied.
        limits: How much is asked and kept.
        rules: The platform team's restrictions.
    """

    connection: ConnectionFields = field(repr=False)
    paths: Mapping[str, tuple[str, ...] | None]
    mount: str | None
    kv_version: int
    team_paths: bool
    absent: Mapping[str, bool]
    limits: Limits
    rules: tuple[SecretRule, ...]


def parse_options(given: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Options:
    """Read the keyword arguments.

    Args:
        given: As Airflow gives them: JSON values, and texts from the environment.
        environment: Where VAULT_ADDR, VAULT_TOKEN and VAULT_CACERT are, which the official back
            end reads too.

    Raises:
        ConfigurationError: An option that there is not, or a value that is not allowed.
    """
    if not given:
        # Rules that nobody could read would restrict nothing.
        raise ConfigurationError(
            f"{WHERE}: found none; Airflow gives none where it cannot read them. Expected a JSON "
            "object with one option at least, such as url"
        )
    known = {*_OWN, *_LOGIN, *_OTHER_LOGINS, *vault_fields()}
    unknown = sorted(set(given) - known)
    if unknown:
        raise ConfigurationError(
            f"{WHERE}: found {', '.join(name[:40] for name in unknown[:5])}; no such option"
        )
    mount = given.get("mount_point", "secret")
    return Options(
        connection=_connection(given, environment),
        paths={kind: _paths(given, kind) for kind in KINDS},
        mount=_text("mount_point", mount).strip("/") if mount else None,
        kv_version=_version(given.get("kv_engine_version") or 2),
        team_paths=_flag("use_team_secrets_path", given.get("use_team_secrets_path", True)),
        absent=_absent(given.get("absent", "next")),
        limits=Limits(
            cache_ttl_s=_number("cache_ttl_s", given.get("cache_ttl_s", 30.0), most=3600.0),
            cache_size=int(_number("cache_size", given.get("cache_size", 256), most=100_000.0)),
            per_s=_number("lookups_per_s", given.get("lookups_per_s", 50.0), most=100_000.0),
        ),
        rules=parse_secret_rules(_object("rules", given.get("rules") or {})),
    )


def _connection(given: Mapping[str, Any], environment: Mapping[str, str]) -> ConnectionFields:
    """The fields that a connection of type `vault_secure_ml` would have."""
    method = given.get("auth_type") or "token"
    others = [name for name in _OTHER_LOGINS if given.get(name)]
    if others:
        raise ConfigurationError(f"{WHERE}: {others[0]} belongs to a login that is not supported")
    url = given.get("url") or environment.get("VAULT_ADDR")
    if not url:
        raise ConfigurationError(f"{WHERE}: url: not set; expected https://vault.example.org:8200")
    login, password = _who(method, given, environment)
    return ConnectionFields(
        conn_id=WHERE,
        conn_type="vault_secure_ml",
        host=_text("url", url),
        login=login,
        # Empty, as generated files hold it, is not set.
        password=Secret(password) if password else None,
        extra=_extra(method, given, environment),
    )


def _who(
    method: str, given: Mapping[str, Any], environment: Mapping[str, str]
) -> tuple[str | None, str | None]:
    """Login and password, by what the official back end calls them."""
    if method == "token":
        by_path = bool(given.get("token_path"))
        return None, None if by_path else given.get("token") or environment.get("VAULT_TOKEN")
    if method == "approle":
        return given.get("role_id"), given.get("secret_id")
    if method == "aws_iam":
        return given.get("key_id"), given.get("secret_id")
    return given.get("username"), given.get("password")


def _extra(method: str, given: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    extra = {name: given[name] for name in vault_fields() if given.get(name) is not None}
    extra.setdefault("deadline_s", _DEADLINE_S)
    if method == "approle":
        extra.pop("role_id", None)
    if extra.get("jwt_token"):
        # The official back end prefers it, and says so.
        extra.pop("jwt_token_path", None)
    verify = _switch_or_path(given.get("verify"))
    if verify is False:
        raise ConfigurationError(
            f"{WHERE}: verify is false, and any server would be trusted; give the path of its "
            "CA's certificates"
        )
    if verify is None and not extra.get("ca"):
        verify = environment.get("VAULT_CACERT")
    cert = given.get("cert")
    pair = list(cert) if isinstance(cert, (list, tuple)) else [cert, None]
    taken = {
        "ca": verify if isinstance(verify, str) else None,
        "client_cert": pair[0],
        "client_key": pair[1] if len(pair) == 2 else None,
        "timeout_s": given.get("timeout"),
        "aws_assume_role": given.get("assume_role_kwargs") or None,
    }
    return extra | {name: value for name, value in taken.items() if value is not None}


def _switch_or_path(found: Any) -> bool | str | None:
    text = str(found).strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    return found if found is None else _text("verify", found)


def _paths(given: Mapping[str, Any], kind: str) -> tuple[str, ...] | None:
    """Where a kind lies; a deprecated option of the official back end is one more place."""
    name = f"{kind}_path"
    found = given.get(name, _PATHS[kind])
    more = given.get("global_secrets_path")
    if isinstance(found, str):
        found = [found]
    if found is not None and not isinstance(found, Sequence):
        raise ConfigurationError(f"{WHERE}: {name}: expected a path, a list of paths or null")
    every = [*(found or []), *([] if more is None else [more])]
    if found is None and more is None:
        return None
    return tuple(_text(name, path).strip("/") for path in every)


def _absent(found: Any) -> dict[str, bool]:
    """What happens where Vault has no such secret: `next` back end, or `deny`."""
    kinds = found if isinstance(found, Mapping) else dict.fromkeys(KINDS, found)
    if set(kinds) - set(KINDS) or set(kinds.values()) - {"next", "deny"}:
        raise ConfigurationError(
            f"{WHERE}: absent: expected next or deny, or one of them for {', '.join(KINDS)}"
        )
    return {kind: kinds.get(kind, "next") == "deny" for kind in KINDS}


def _version(found: Any) -> int:
    if str(found) not in ("1", "2"):
        raise ConfigurationError(f"{WHERE}: kv_engine_version: expected 1 or 2")
    return int(found)


def _flag(name: str, found: Any) -> bool:
    text = str(found).strip().lower()
    if text not in _TRUE and text not in _FALSE:
        raise ConfigurationError(f"{WHERE}: {name}: expected true or false")
    return text in _TRUE


def _number(name: str, found: Any, *, most: float) -> float:
    try:
        number = float(found)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number <= most:
        raise ConfigurationError(f"{WHERE}: {name}: expected a number from 0 to {most:g}")
    return number


def _text(name: str, found: Any) -> str:
    if not isinstance(found, str):
        raise ConfigurationError(f"{WHERE}: {name}: expected a text")
    return found


def _object(name: str, found: Any) -> Mapping[str, Any]:
    if isinstance(found, Mapping):
        return found
    raise ConfigurationError(f"{WHERE}: {name}: expected an object")
