"""What Airflow calls for connections, variables and its own options.

It answers, says that it does not know, or raises what Airflow takes for a denial: on anything else
Airflow would ask the next back end, and use a login that was set aside long ago. So would it where
it cannot use an answer, which is why that is tried here first.

Source: FACTS, "Secrets back ends fall through …".
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote

from airflow.secrets import BaseSecretsBackend

from airflow_secure_ml.errors import FormatError, SecureMLError
from airflow_secure_ml.secrets.answering import answers_of

_T = TypeVar("_T")
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
        return _or_denied("connections", conn_id, lambda: self._conn_value(conn_id, team_name))

    def get_connection(self, conn_id: str, team_name: str | None = None) -> Any:
        """A connection, its secrets masked; as `get_conn_value`."""
        return _or_denied("connections", conn_id, lambda: self._connection(conn_id, team_name))

    def get_variable(self, key: str, team_name: str | None = None) -> Any:
        """A variable, masked; None: Vault has none of that name.

        Raises:
            AirflowSecretsBackendAccessDenied: Denied, or not known.
        """
        as_json = _reads_json(sys._getframe(1))
        return _or_denied("variables", key, lambda: self._variable(key, team_name, as_json))

    def get_config(self, key: str) -> Any:
        """An option of Airflow's; errors as in `get_variable`."""
        answers = self._answers
        return _or_denied("config", key, lambda: _value(answers.answer("config", key, None)))

    def _connection(self, conn_id: str, team_name: str | None) -> Any:
        value = self._conn_value(conn_id, team_name)
        if value is None:
            return None
        connection = self.deserialize_connection(conn_id, value)
        _mask_connection(connection)
        return connection

    def _variable(self, key: str, team_name: str | None, as_json: bool) -> Any:
        value = _value(self._answers.answer("variables", key, team_name))
        if value is None:
            return None
        _mask(value)
        return _json_text(value) if as_json else value

    def _conn_value(self, conn_id: str, team_name: str | None) -> str | None:
        fields = self._answers.answer("connections", conn_id, team_name)
        if fields is None:
            return None
        uri = fields.get("conn_uri")
        if uri is not None and not isinstance(uri, str):
            raise FormatError("its field conn_uri is no text")
        return uri or json.dumps(fields)


def _or_denied(kind: str, name: str, ask: Callable[[], _T]) -> _T:
    """Turn whatever goes wrong into a denial, which ends the look-up everywhere in Airflow."""
    try:
        return _asked_once(ask)
    except Exception as error:  # noqa: BLE001 - on any other error the next back end is asked
        # Another library's text may hold what it could not read.
        because = str(error) if isinstance(error, SecureMLError) else "it cannot be read"
    # Not within the block: the error would hang on it, with its text and its frames.
    raise _denial(kind, name, because)


def _asked_once(ask: Callable[[], _T]) -> _T:
    if getattr(_this_thread, "answering", False):
        # Answering it takes what it asks for: it would not end.
        raise FormatError("it was asked for while another look-up was being answered")
    _this_thread.answering = True
    try:
        return ask()
    finally:
        _this_thread.answering = False


def _denial(kind: str, name: str, because: str) -> Exception:
    from airflow.sdk.exceptions import AirflowSecretsBackendAccessDenied

    return AirflowSecretsBackendAccessDenied(
        f"vault secrets back end: {_ONE[kind]} {name[:250]!r}: {because}. No other back end is "
        "asked for it"
    )


def _value(fields: dict[str, Any] | None) -> Any:
    """The field that holds a variable or option; what is no text passes as in the official one."""
    if fields is None:
        return None
    if fields.get("value") is None:
        raise FormatError("it has no field `value`; write it as value=…")
    return fields["value"]


def _reads_json(caller: FrameType) -> bool:
    """Whether Airflow will read the variable as JSON: it does so where a failure falls through."""
    wants = caller.f_code.co_name == "_get_variable" and caller.f_locals.get("deserialize_json")
    return bool(wants)


def _json_text(value: Any) -> str:
    """A variable as JSON text; an object that was stored as such is written out."""
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        # Without its cause: json quotes what it read.
        raise FormatError("it was asked for as JSON, and is none; mend it in Vault") from None
    return value


def _mask_connection(connection: Any) -> None:
    if connection.password:
        _mask(connection.password)
        # In a URI it stands so, which the mask of the password itself does not cover.
        _mask(quote(connection.password, safe=""))
    # Masks what its extra calls secret. And Airflow asks for it next, where a field that is no
    # text would lead to the next back end.
    connection.get_uri()


def _mask(secret: Any) -> None:
    """Have Airflow mask a text, and in an object what its names call secret."""
    from airflow.sdk.log import mask_secret

    mask_secret(secret)
