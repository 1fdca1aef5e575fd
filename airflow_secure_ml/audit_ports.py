"""The log's reader and its writer, by where the deployment keeps it.

The sequencer, which reads no settings, is told the same place by its arguments: an address and
paths, never a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from airflow_secure_ml.core.audit.ports import AuditReader, LogWriter
from airflow_secure_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from types import ModuleType, TracebackType

    from airflow_secure_ml.adapters.postgres_audit import Login
    from airflow_secure_ml.adapters.postgres_audit.inbox_segments import InboxSegments
    from airflow_secure_ml.adapters.spool.emitting import Lines
    from airflow_secure_ml.adapters.subject_keys import SubjectKeys
    from airflow_secure_ml.services.erasing_subject import AsideEraser
    from airflow_secure_ml.settings import Settings

SQLITE = "sqlite"


class OpenLog(LogWriter, Protocol):
    """A log that is open for writing, for as long as the block lasts."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@dataclass(frozen=True, kw_only=True)
class AuditPlace:
    """Where a log lies.

    Attributes:
        audit_dir: Where a file would be.
        store: `sqlite`, or the address of a database.
        passfile: libpq's pass file; None: none.
        subjects_dir: Where the keys of those lie whom hidden values name; None: there are none,
            and what hidden values hide lies in the open beside the log.
    """

    audit_dir: Path
    store: str = SQLITE
    passfile: Path | None = None
    subjects_dir: Path | None = None

    @cached_property
    def subjects(self) -> SubjectKeys | None:
        """Whose keys seal what lies behind hidden values; None: it lies in the open."""
        if self.subjects_dir is None:
            return None
        from airflow_secure_ml.adapters.subject_keys import FILE, SubjectKeys

        return SubjectKeys(self.subjects_dir / FILE)

    def reader(self, *, query_s: float | None = None) -> AuditReader:
        """The log as readers see it; nothing is opened before the first question.

        Args:
            query_s: How long one question may take, seconds; None: as long as it takes.
        """
        if self.store == SQLITE:
            from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditReader

            return SqliteAuditReader(
                self.audit_dir / LOG_FILE, query_s=query_s, subjects=self.subjects
            )
        from airflow_secure_ml.adapters.postgres_audit import PostgresAuditReader

        return PostgresAuditReader(self.login(), query_s=query_s, subjects=self.subjects)

    def writer(self, origin: str) -> OpenLog:
        """The log as its one sequencer sees it.

        Args:
            origin: The log's name.

        Raises:
            AuditLogError: It is another log, or was changed.
            ServiceUnavailableError: It cannot be reached, or another sequencer has it.
        """
        if self.store == SQLITE:
            from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE, SqliteAuditWriter

            return SqliteAuditWriter(self.audit_dir / LOG_FILE, origin, subjects=self.subjects)
        from airflow_secure_ml.adapters.postgres_audit import PostgresAuditWriter

        return PostgresAuditWriter(self.login(), origin, subjects=self.subjects)

    def inbox(self) -> InboxSegments | None:
        """What workers handed over to the log's database; None: the log lies in a file."""
        if self.store == SQLITE:
            return None
        from airflow_secure_ml.adapters.postgres_audit.inbox_segments import InboxSegments

        return InboxSegments(self.login())

    def eraser(self) -> AsideEraser:
        """What removes rows that lie behind hidden values."""
        if self.store == SQLITE:
            from airflow_secure_ml.adapters.sqlite_audit import LOG_FILE
            from airflow_secure_ml.adapters.sqlite_audit.erasing import SqliteEraser

            return SqliteEraser(self.audit_dir / LOG_FILE)
        from airflow_secure_ml.adapters.postgres_audit.erasing import PostgresEraser

        return PostgresEraser(self.login())

    def login(self) -> Login:
        """How the database is reached.

        Raises:
            ConfigurationError: The log lies in a file; or the address is none.
        """
        if self.store == SQLITE:
            raise ConfigurationError(
                "[secure_ml] audit_store: the log lies in a file; expected an address "
                "postgresql://…"
            )
        from airflow_secure_ml.adapters.postgres_audit import Login, parse_address

        return Login(address=parse_address(self.store), passfile=self.passfile)

    def arguments(self) -> list[str]:
        """What a program of our own is told; empty for a file."""
        subjects = [] if self.subjects_dir is None else ["--subjects-dir", str(self.subjects_dir)]
        if self.store == SQLITE:
            return subjects
        passfile = [] if self.passfile is None else ["--audit-store-passfile", str(self.passfile)]
        return ["--audit-store", self.store, *passfile, *subjects]


def push_target(settings: Settings) -> dict[str, str] | None:
    """Where events are handed over to, as the guardian is told too; None: to nobody.

    Raises:
        ConfigurationError: audit_spool is push, and it is not clear where to.
        MissingExtraError: psycopg is not installed.
    """
    if settings.audit_spool != "push":
        return None
    inbox, url = settings.audit_inbox, settings.audit_ingest_url
    if bool(inbox) == bool(url) or settings.audit_collector is not None:
        raise ConfigurationError(
            "[secure_ml] audit_spool: found push; expected one of audit_inbox and "
            "audit_ingest_url beside it, and no audit_collector"
        )
    if inbox:
        from airflow_secure_ml.adapters.postgres_audit.failures import psycopg

        found = {"inbox": inbox, "packages": _folder_of(psycopg())}
        passfile = settings.audit_inbox_passfile
        return found if passfile is None else {**found, "passfile": str(passfile)}
    if settings.audit_ingest_token_path is None:
        raise ConfigurationError(
            "[secure_ml] audit_ingest_token_path: empty; expected the file with the token for "
            "audit_ingest_url, as `secure-ml audit ingest-token` makes it"
        )
    import cryptography

    token_path = str(settings.audit_ingest_token_path)
    return {"url": url, "token_path": token_path, "packages": _folder_of(cryptography)}


def _folder_of(library: ModuleType) -> str:
    """Where a library was found, for a program that starts without what is installed."""
    return str(Path(str(library.__file__)).parents[1])


def push_lines(target: Mapping[str, str]) -> Lines:
    """The lines to what `push_target` found.

    Raises:
        ConfigurationError: The address is none.
    """
    if "url" in target:
        from airflow_secure_ml.adapters.ingest.line import IngestLines

        return IngestLines(target["url"], Path(target["token_path"]))
    from airflow_secure_ml.adapters.postgres_audit import Login, parse_address
    from airflow_secure_ml.adapters.postgres_audit.inbox_line import InboxLines

    passfile = target.get("passfile")
    return InboxLines(
        Login(
            address=parse_address(target["inbox"]),
            passfile=None if passfile is None else Path(passfile),
        )
    )
