"""Where a connection comes from: Airflow where it is loaded, else the environment alone.

The console script does not load Airflow, so it sees neither Airflow's database nor its secrets
back ends. `airflow secure-ml` sees all of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import (
    ConfigurationError,
    SecureMLError,
    ServiceRefusedError,
    ServiceUnavailableError,
)
from airflow_secure_ml.settings_sources import airflow_is_loaded

_PREFIX = "AIRFLOW_CONN_"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFields:
    """An Airflow connection.

    Attributes:
        conn_id: Its id.
        conn_type: Such as `vault_secure_ml`.
        host: Address or name.
        port: Beside `host`; None: in it, or none.
        schema: A path, in a URI.
        login: A user's name, or what stands for it.
        password: Its secret.
        extra: Fields of this type of connection; JSON values.
    """

    conn_id: str
    conn_type: str
    host: str | None = None
    port: int | None = None
    schema: str | None = None
    login: str | None = None
    password: Secret | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, conn_id: str, connection: Any) -> ConnectionFields:
        """The fields of Airflow's own class.

        Raises:
            ConfigurationError: Its extra is no JSON object.
        """
        password = connection.password
        return cls(
            conn_id=conn_id,
            conn_type=connection.conn_type or "",
            host=connection.host or None,
            port=connection.port,
            schema=connection.schema or None,
            login=connection.login or None,
            password=Secret(password) if password else None,
            # Not extra_dejson: that is empty where the text cannot be read.
            extra=_extra(conn_id, connection.extra),
        )


def find_connection(conn_id: str) -> ConnectionFields:
    """Find a connection by its id.

    Raises:
        ConfigurationError: There is none, or it cannot be read.
        ServiceError: Airflow or a secrets back end did not give it.
    """
    if airflow_is_loaded():
        return ConnectionFields.of(conn_id, _from_airflow(conn_id))
    text = os.environ.get(_PREFIX + conn_id.upper())
    if text is None:
        raise ConfigurationError(
            f"connection {conn_id}: not found; set {_PREFIX}{conn_id.upper()} to its URI or JSON, "
            "or use `airflow secure-ml`, which also looks into Airflow's database and secrets "
            "back ends"
        )
    return parse_connection(conn_id, text)


def parse_connection(conn_id: str, text: str) -> ConnectionFields:
    """Read a connection as an environment variable holds it, by Airflow's rules.

    Args:
        conn_id: Its id.
        text: A JSON object or a URI.

    Raises:
        ConfigurationError: It is neither. The text is not shown.
    """
    try:
        read = _of_json if text.lstrip().startswith("{") else _of_uri
        return read(conn_id, text.strip())
    except (ValueError, TypeError, RecursionError):
        # Without its cause: json and urllib quote what they read.
        raise ConfigurationError(
            f"connection {conn_id}: {_PREFIX}{conn_id.upper()} cannot be read; expected a URI or "
            "a JSON object with conn_type, host, login, password, port and extra"
        ) from None


def _of_json(conn_id: str, text: str) -> ConnectionFields:
    found = json.loads(text)
    port, password = found.get("port"), found.get("password")
    return ConnectionFields(
        conn_id=conn_id,
        conn_type=str(found.get("conn_type") or "").replace("-", "_"),
        host=found.get("host") or None,
        port=int(port) if port else None,
        schema=found.get("schema") or None,
        login=found.get("login") or None,
        password=Secret(password) if password else None,
        extra=_extra(conn_id, found.get("extra")),
    )


def _of_uri(conn_id: str, text: str) -> ConnectionFields:
    conn_type, found, rest = text.partition("://")
    if not found:
        raise ValueError
    protocol, inner, _ = rest.partition("://")
    # Two of them: the first is the connection's type, the second the host's.
    is_inner = bool(inner) and protocol.isalnum()
    parts = urlsplit(rest if is_inner else f"//{rest}")
    host = _host(parts)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return ConnectionFields(
        conn_id=conn_id,
        conn_type=conn_type.replace("-", "_"),
        host=f"{protocol}://{host}" if is_inner and host else host or None,
        port=parts.port,
        schema=unquote(parts.path[1:]) or None,
        login=unquote(parts.username) if parts.username else None,
        password=Secret(unquote(parts.password)) if parts.password else None,
        extra=_extra(conn_id, query.get("__extra__", query)),
    )


def _host(parts: SplitResult) -> str:
    # A host with a port or slash in it is quoted there; `hostname` alone is in lower case.
    return unquote(parts.hostname or "")


def _extra(conn_id: str, extra: Any) -> Mapping[str, Any]:
    if not extra:
        return {}
    try:
        found = json.loads(extra) if isinstance(extra, str) else extra
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, Mapping):
        raise ConfigurationError(f"connection {conn_id}: its extra is no JSON object; correct it")
    return found


def _from_airflow(conn_id: str) -> Any:
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowNotFoundException,
        AirflowRuntimeError,
    )

    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        raise ConfigurationError(
            f"connection {conn_id}: Airflow knows none of that id; add it under Admin, "
            f"Connections, with `airflow connections add`, in a secrets back end, or as "
            f"{_PREFIX}{conn_id.upper()}"
        ) from error
    # A PermissionError: a secrets back end denied it, and no other may be asked.
    except (AirflowException, AirflowRuntimeError, PermissionError) as error:
        raise _of_airflow_error(conn_id, error) from RuntimeError(type(error).__name__)


def _of_airflow_error(conn_id: str, error: Exception) -> SecureMLError:
    # Its name alone: a URI that could not be read is quoted in the text.
    name, action = type(error).__name__, f"give connection {conn_id}"
    denied = isinstance(error, PermissionError)
    cls = ServiceRefusedError if denied else ServiceUnavailableError
    return cls(
        f"airflow did not {action}: {name}; look into the secrets back end that holds it",
        service="airflow",
        action=action,
        reason=name,
    )
