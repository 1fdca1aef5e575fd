"""A leased login in the place of an Airflow connection's own, in this whole process.

Not a context variable: a hook in a thread would silently get the static login. Not the
environment: children inherit it. Every look-up of the Task SDK asks for the list of back ends when
it is made; a table of ours stands first in that list.

Source: SECURE_TASK, "A leased login as a connection".
"""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from airflow_secure_ml.core.secret_search import spellings
from airflow_secure_ml.errors import ConfigurationError, ServiceUnavailableError
from airflow_secure_ml.services.leasing import Leased

# None: the connection is known to have a leased login, and at this moment there is none.
_table: dict[str, Any] = {}
_past_us = threading.local()
_installed = threading.Lock()


class _Table:
    """The first back end of every look-up in this process."""

    def get_connection(self, conn_id: str, team_name: str | None = None) -> Any:
        """The leased connection; None: not one of ours; denied while nothing is leased."""
        if getattr(_past_us, "asks", False) or not _is_ours(conn_id):
            return None
        found = _table.get(conn_id)
        if found is None:
            _deny(conn_id)
        # Hooks change what they were given.
        return copy.copy(found)

    async def aget_connection(self, conn_id: str, team_name: str | None = None) -> Any:
        """As `get_connection`."""
        return self.get_connection(conn_id)

    def get_variable(self, key: str, team_name: str | None = None) -> None:
        """None: no variable is leased."""

    async def aget_variable(self, key: str) -> None:
        """None."""


def _is_ours(conn_id: str) -> bool:
    # Airflow finds AIRFLOW_CONN_WAREHOUSE by any spelling, and it holds the static login.
    return conn_id in _table or conn_id.upper() in {one.upper() for one in list(_table)}


def _deny(conn_id: str) -> NoReturn:
    raise _denial()(
        f"connection {conn_id!r} has a leased login, and only while the body of its task runs; "
        "its static login is not used in this task. Ask for it inside the body"
    )


@functools.cache
def _denial() -> Any:
    """Airflow's own class, so that no other back end is asked; and final: no retry changes it."""
    from airflow.sdk.exceptions import AirflowFailException, AirflowSecretsBackendAccessDenied

    name = AirflowSecretsBackendAccessDenied.__name__
    return type(name, (AirflowSecretsBackendAccessDenied, AirflowFailException), {})


def deny(conn_ids: Collection[str]) -> None:
    """Give these connections no login in this process, from now on until one is lent."""
    if conn_ids:
        _stand_first()
    for conn_id in conn_ids:
        _table.setdefault(conn_id, None)


@contextmanager
def denied_before_the_body(conn_ids: Collection[str]) -> Iterator[None]:
    """Give these connections no login; where the block fails, the body's turn does not come."""
    deny(conn_ids)
    try:
        yield
    except BaseException:
        allow_others(conn_ids)
        raise


def allow_others(conn_ids: Collection[str]) -> None:
    """Forget these connections where other tasks run in this process, as under `dag.test()`."""
    from airflow.sdk.execution_time import task_runner

    comms = getattr(task_runner, "SUPERVISOR_COMMS", None)
    if comms is not None and not type(comms).__name__.startswith("InProcess"):
        # It ends with the task, and what comes after the body must not find the static login.
        return
    for conn_id in conn_ids:
        _table.pop(conn_id, None)


@contextmanager
def lent(leased: Collection[Leased]) -> Iterator[None]:
    """Give connections their leased logins for the time of the block; they have none after it.

    Raises:
        ConfigurationError: A connection that must be completed cannot be looked up.
    """
    mask(leased)
    deny([one.request.conn_id for one in leased])
    made = {one.request.conn_id: _connection(one) for one in leased}
    try:
        _table.update(made)
        yield
    finally:
        _table.update(dict.fromkeys(made))


def mask(leased: Collection[Leased]) -> None:
    """Have Airflow's logs mask every secret field, in each form in which it may turn up."""
    from airflow.sdk.log import mask_secret

    secrets = [secret for one in leased for secret in one.granted.secrets]
    # All at once: each call is a question to the supervisor.
    mask_secret([form for secret in secrets for form in spellings(secret)])


def _connection(leased: Leased) -> Any:
    """The static connection with the leased login in it; None: there is none to complete."""
    from airflow_secure_ml.securing.leased_connection import LeasedConnection

    fields = leased.granted.fields
    if not {"username", "password"} <= fields.keys():
        return None
    static = _static(leased.request.conn_id)
    if static is None:
        return None
    return LeasedConnection(
        conn_id=static.conn_id,
        conn_type=static.conn_type,
        host=static.host,
        port=static.port,
        schema=static.schema,
        extra=static.extra,
        login=fields["username"].reveal(),
        password=fields["password"].reveal(),
    )


def _static(conn_id: str) -> Any:
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException, AirflowSecretsBackendAccessDenied

    _past_us.asks = True
    try:
        return Connection.get(conn_id)
    except AirflowNotFoundException:
        return None
    except AirflowSecretsBackendAccessDenied as error:
        raise ConfigurationError(
            f"connection {conn_id!r}: a secrets back end denies it to this task, so its host is "
            "not known; allow it, or name the credential otherwise and take the parameter",
            why="lease_refused",
        ) from error
    except (OSError, EOFError) as error:
        raise ServiceUnavailableError(
            service="airflow", action=f"look up connection {conn_id}", reason=type(error).__name__
        ) from error
    finally:
        _past_us.asks = False


def _stand_first() -> None:
    """Put the table before the back ends of every look-up; once a process."""
    from airflow.sdk.execution_time import supervisor

    with _installed:
        before = supervisor.ensure_secrets_backend_loaded
        if getattr(before, "_secure_ml_stands_first", False):
            return

        def ensure_secrets_backend_loaded() -> list[Any]:
            return [_Table(), *before()]

        ensure_secrets_backend_loaded._secure_ml_stands_first = True  # type: ignore[attr-defined] # a mark, so that it is done once
        supervisor.ensure_secrets_backend_loaded = ensure_secrets_backend_loaded


def needs_leased(trigger: Any, conn_ids: Collection[str]) -> str | None:
    """The leased connection that a trigger names, which runs in another process; None: none."""
    if not conn_ids:
        return None
    _, arguments = trigger.serialize()
    return next((conn_id for conn_id in conn_ids if _names(arguments, conn_id)), None)


def _names(value: Any, conn_id: str) -> bool:
    if isinstance(value, str):
        return value == conn_id
    if isinstance(value, Mapping):
        return any(_names(one, conn_id) for one in value.values())
    if isinstance(value, (list, tuple, set)):
        return any(_names(one, conn_id) for one in value)
    return False
