"""What went wrong between us and PostgreSQL, told from psycopg's exceptions.

Only the server's own first sentence and its code are passed on: what stands below it quotes rows.
Told apart by code, since sentences are translated. No exception of psycopg leaves this package.

Source: PostgreSQL, Appendix A, "PostgreSQL Error Codes".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from airflow_secure_ml.errors import (
    AuditLogError,
    ConfigurationError,
    SecureMLError,
    ServiceRefusedError,
    ServiceUnavailableError,
)
from airflow_secure_ml.extras import import_extra

SERVICE = "audit log"
UNAVAILABLE = "audit_unavailable"
# Connection, transaction rolled back, resources, limits of the moment, operator, system.
_LATER = ("08", "25", "40", "53", "55", "57", "58")
_NOT_ALLOWED = ("28", "42501", "0L", "0P")
_NOT_THERE = ("3D",)
_MAX_SHOWN = 200


def psycopg() -> ModuleType:
    """The library.

    Raises:
        MissingExtraError: It is not installed.
    """
    return import_extra("psycopg", extra="postgres")


@contextmanager
def translated(action: str) -> Iterator[None]:
    """Turn psycopg's exceptions into ours.

    Args:
        action: What the log was asked to do, such as `read`.

    Raises:
        ServiceUnavailableError: It cannot be used now.
        ServiceRefusedError: This login may not do that.
        ConfigurationError: There is no such database.
        AuditLogError: Anything else: what PostgreSQL cannot make sense of is not what was written.
    """
    try:
        yield
    except psycopg().Error as error:
        raise as_ours(error, action) from error


def as_ours(error: Any, action: str) -> SecureMLError:
    """The error of ours that an exception of psycopg is."""
    library, code, said = psycopg(), error.sqlstate or "", _first_sentence(error)
    if code.startswith(_NOT_ALLOWED):
        return ServiceRefusedError(
            service=SERVICE,
            action=action,
            reason=f"{said}; grant the login the role that fits: docs/audit-in-postgresql.md",
            why=UNAVAILABLE,
        )
    if code.startswith(_NOT_THERE):
        return ConfigurationError(f"audit_store: {said}; make the database first")
    is_lost = not code and isinstance(error, (library.OperationalError, library.InterfaceError))
    if code.startswith(_LATER) or is_lost:
        return ServiceUnavailableError(service=SERVICE, action=action, reason=said, why=UNAVAILABLE)
    return AuditLogError(f"audit log: {action}: PostgreSQL says: {said}")


def as_login_failure(error: Any) -> SecureMLError:
    """The error of ours that a connection which was not made is; libpq gives no code for it."""
    connection = getattr(error, "pgconn", None)
    if connection is not None and connection.needs_password:
        return ConfigurationError(
            "audit_store: the server asks for a password; put it into a pass file of libpq's, "
            "mode 0600, and name that file by audit_store_passfile"
        )
    said = _first_sentence(error)
    if connection is not None and connection.used_password and "authentication failed" in said:
        return ServiceRefusedError(
            service=SERVICE, action="log in", reason="the password is not accepted", why=UNAVAILABLE
        )
    return ServiceUnavailableError(service=SERVICE, action="connect", reason=said, why=UNAVAILABLE)


def _first_sentence(error: Any) -> str:
    code, told = error.sqlstate, error.diag.message_primary
    said = told or next(iter(str(error).splitlines()), "") or type(error).__name__
    return f"{said[:_MAX_SHOWN]} ({code})" if code else said[:_MAX_SHOWN]
