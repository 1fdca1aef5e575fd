"""What Airflow calls for connections, variables and its own options.

It answers, says that it does not know, or raises what Airflow takes for a denial: on anything else
Airflow would ask the next back end, and use a login that was set aside long ago.

Source: FACTS, "Secrets back ends fall through …".
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn
from urllib.parse import quote

from airflow.secrets import BaseSecretsBackend

from airflow_secure_ml.errors import FormatError, SecureMLError
from airflow_secure_ml.secrets.answering import answers_of

_this_thread = threading.local()
_ONE = {"connections": "connection", "variables": "variable", "config": "option"}


class VaultBackend(BaseSecretsBackend):
    """Connections, variables and options from Vault's KV engine.

    Takes the keyword arguments of the official hashicorp provider's back end, and our own.
    Nothing is read or connected before the first look-up.
    """

    def __init__(self, **backend_kwargs: Any) -> None:
        super().__init__()
        self._answers = answers_of(backend_kwargs)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secrets back end cannot be pickled; let Airflow make it anew")

    def get_conn_value(self, conn_id: str, team_name: str | None = None) -> str | None:
        """A connection as URI or JSON; None: Vault has none of that id.

        Raises:
            AirflowSecretsBackendAccessDenied: Denied, or not known.
        """
        with _denying("connections", conn_id):
            return self._conn_value(conn_id, team_name)

    def get_connection(self, conn_id: str, team_name: str | None = None) -> Any:
        """A connection, its secrets masked; as `get_conn_value`."""
        with _denying("connections", conn_id):
            value = self._conn_value(conn_id, team_name)
            if value is None:
                return None
            connection = self.deserialize_connection(conn_id, value)
            _mask_connection(connection)
            return connection

    def get_variable(self, key: str, team_name: str | None = None) -> Any:
        """A variable, masked; None: Vault has none of that name.

        Raises:
            AirflowSecretsBackendAccessDenied: Denied, or not known.
        """
        with _denying("variables", key):
            value = _value(self._answers.answer("variables", key, team_name))
            if value is not None:
                _mask(value)
            return value

    def get_config(self, key: str) -> Any:
        """An option of Airflow's; errors as in `get_variable`."""
        with _denying("config", key):
            return _value(self._answers.answer("config", key, None))

    def _conn_value(self, conn_id: str, team_name: str | None) -> str | None:
        fields = self._answers.answer("connections", conn_id, team_name)
        if fields is None:
            return None
        uri = fields.get("conn_uri")
        if uri is not None and not isinstance(uri, str):
            raise FormatError("its field conn_uri is no text")
        return uri or json.dumps(fields)


@contextmanager
def _denying(kind: str, name: str) -> Iterator[None]:
    """Turn whatever goes wrong into a denial, which ends the look-up everywhere in Airflow."""
    try:
        if getattr(_this_thread, "answering", False):
            # Answering it takes what it asks for: it would not end.
            raise FormatError("it was asked for while another look-up was being answered")
        _this_thread.answering = True
        try:
            yield
        finally:
            _this_thread.answering = False
    except Exception as error:  # noqa: BLE001 - on any other error the next back end is asked
        _deny(kind, name, error)


def _deny(kind: str, name: str, error: Exception) -> NoReturn:
    from airflow.sdk.exceptions import AirflowSecretsBackendAccessDenied

    # Another library's text may hold what it could not read.
    because = str(error) if isinstance(error, SecureMLError) else "it cannot be read"
    raise AirflowSecretsBackendAccessDenied(
        f"vault secrets back end: {_ONE[kind]} {name[:250]!r}: {because}. No other back end is "
        "asked for it"
    ) from None


def _value(fields: dict[str, Any] | None) -> Any:
    """The field that holds a variable or option; what is no text passes as in the official one."""
    if fields is None:
        return None
    if fields.get("value") is None:
        raise FormatError("it has no field `value`; write it as value=…")
    return fields["value"]


def _mask_connection(connection: Any) -> None:
    if connection.password:
        _mask(connection.password)
        # In a URI it stands so, which the mask of the password itself does not cover.
        _mask(quote(connection.password, safe=""))
    extra = connection.extra_dejson
    if extra:
        _mask(extra)


def _mask(secret: Any) -> None:
    """Have Airflow mask a text, and in an object what its names call secret."""
    from airflow.sdk.log import mask_secret

    mask_secret(secret)
