"""The ports that the settings stand for, made on first use and kept for this process.

The one place where adapters are introduced to services; tasks, operators, pages and the command
line come here. Airflow is not imported.
"""

from __future__ import annotations

import functools
import logging
import sys
import time
from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_secure_ml.core.policy import Rules
from airflow_secure_ml.core.policy_file import MAX_POLICY_BYTES, parse_rules
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.settings import Settings, load_settings

if TYPE_CHECKING:
    from airflow_secure_ml.adapters.aws.session import AwsSession
    from airflow_secure_ml.adapters.pkcs11.token import Token
    from airflow_secure_ml.adapters.vault.client import VaultClient
    from airflow_secure_ml.audit_ports import AuditPlace
    from airflow_secure_ml.core.audit.event import RunRef
    from airflow_secure_ml.core.audit.log_key import LogKey
    from airflow_secure_ml.core.audit.ports import AuditReader
    from airflow_secure_ml.core.audit.relaying import RelayBook
    from airflow_secure_ml.core.ports import (
        AuditSink,
        CredentialSource,
        DataChecker,
        ObjectStore,
    )
    from airflow_secure_ml.core.secret import Secret
    from airflow_secure_ml.services.desk import Desk, RunGuard, ScratchDirectory, Work
    from airflow_secure_ml.services.governed_keys import GovernedKeys
    from airflow_secure_ml.services.journal import Journal
    from airflow_secure_ml.services.run_plan import Plan
    from airflow_secure_ml.services.secured_run import Declared, SecuredRun

log = logging.getLogger(__name__)


class Deployment:
    """Settings, and what they stand for.

    Args:
        settings: The options of [secure_ml].
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        # A command asks the person who runs it.
        self.ask_passphrase: Callable[[], Secret] | None = None

    @cached_property
    def keys(self) -> GovernedKeys:
        """The key system, with the names that lie elsewhere, under the crypto policy."""
        from airflow_secure_ml.key_systems import NamedKeys
        from airflow_secure_ml.services.governed_keys import GovernedKeys

        settings = self.settings
        keys = NamedKeys(
            settings.key_system,
            settings.key_names,
            connect=_vault_client,
            vault_conn_id=settings.vault_conn_id,
            connect_aws=_aws_session,
            aws_conn_id=settings.aws_conn_id,
            find_token=self._token,
            wraps=[name for name in (settings.data_key, settings.xcom_key) if name],
            signs=[settings.signing_key, *settings.trusted_signers],
            groups=settings.key_groups,
            passphrase=self.passphrase,
            demands_passphrase=settings.keyring_passphrase_path is not None,
        )
        return GovernedKeys(keys, settings.crypto_policy)

    def _token(self, label: str) -> Token:
        from airflow_secure_ml.adapters.pkcs11.token import Token

        settings = self.settings
        return Token(label, module=settings.pkcs11_module, pin_path=settings.pkcs11_pin_path)

    def passphrase(self) -> Secret:
        """The keyring's passphrase, from its file or from a person at a terminal.

        Raises:
            ConfigurationError: Neither is there.
        """
        path = self.settings.keyring_passphrase_path
        if path is not None:
            from airflow_secure_ml.adapters.local_keyring.passphrase_file import read_passphrase

            return read_passphrase(path)
        if self.ask_passphrase is not None:
            return self.ask_passphrase()
        raise ConfigurationError(
            "the keyring is under a passphrase; set [secure_ml] keyring_passphrase_path to a "
            "file (0600) that holds it"
        )

    @cached_property
    def local_objects(self) -> ObjectStore:
        """Objects in files of this machine."""
        from airflow_secure_ml.adapters.local_objects import LocalObjects

        return LocalObjects()

    @cached_property
    def s3_objects(self) -> ObjectStore:
        """Objects in S3, each bucket through its connection; boto3 is imported with it."""
        from airflow_secure_ml.adapters.aws.s3 import S3Objects
        from airflow_secure_ml.hooks.s3 import BucketConnections

        settings = self.settings
        buckets = BucketConnections(settings.aws_conn_id, settings.s3_connections)
        return S3Objects(buckets.client, asked_of=buckets.asked, use_connection=buckets.use)

    @cached_property
    def checker(self) -> DataChecker:
        """Great Expectations; imported only when something is checked."""
        from airflow_secure_ml.adapters.gx_checker import GxChecker

        return GxChecker()

    @cached_property
    def rules(self) -> Rules | None:
        """The platform team's rules; None: no policy_file is set."""
        path = self.settings.policy_file
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                data = file.read(MAX_POLICY_BYTES + 1)
        except OSError as error:
            raise ConfigurationError(
                f"[secure_ml] policy_file: {path}: {error.strerror}; expected a readable file"
            ) from error
        return parse_rules(data, canonical=self.local_objects.canonical)

    def store(self, uri: str) -> ObjectStore:
        """The store of an address.

        Raises:
            ConfigurationError: A scheme that this release has no store for.
        """
        scheme, found, _ = uri.partition("://")
        if not found or scheme == "file":
            return self.local_objects
        if scheme == "s3":
            return self.s3_objects
        # Not the whole of it: before an @ may stand a password.
        raise ConfigurationError(
            f"{scheme[:40]}://…: expected s3://bucket/key, file:///path or a local path; this "
            f"release has no store for {scheme[:40]}://. A store elsewhere that speaks S3 is "
            "reached by endpoint_url of its connection"
        )

    def canonical(self, address: str) -> str:
        """The one form of an address; ConfigurationError as in `store` and in the store itself."""
        return self.store(address).canonical(address)

    def credentials(self, conn_id: str | None) -> CredentialSource:
        """The credentials that a connection to Vault leads to; None: the default connection's."""
        from airflow_secure_ml.adapters.vault.leases import VaultCredentials
        from airflow_secure_ml.hooks.vault import vault_client

        return VaultCredentials(vault_client(conn_id or self.settings.vault_conn_id))

    def open_sink(self, run: RunRef | None, program: str) -> AuditSink:
        """A new emitter of this process, and a sequencer for it on this machine."""
        from airflow_secure_ml.audit_sinks import SequencedSink, open_emitter

        emitter = open_emitter(self.settings, run, program, airflow=_airflow_version())
        return SequencedSink(emitter, self.ensure_sequencer)

    def audit_reader(self, *, query_s: float | None = None) -> AuditReader:
        """The log as readers see it; nothing is opened before the first question.

        Args:
            query_s: How long one question may take, seconds; None: as long as it takes.
        """
        return self.audit_place.reader(query_s=query_s)

    def log_keys(self) -> tuple[LogKey, ...]:
        """The keys that the log's checkpoints are believed by.

        Raises:
            ConfigurationError: Neither `audit_log_keys` nor the signer's directory names one.
            FormatError: A line of them is not a log key.
        """
        from airflow_secure_ml.adapters.log_signer import PUBLIC_FILE, read_log_keys
        from airflow_secure_ml.core.audit.log_key import parse_log_keys

        lines = self.settings.audit_log_keys
        return parse_log_keys(lines or read_log_keys(self.settings.audit_signer_dir / PUBLIC_FILE))

    @cached_property
    def audit_place(self) -> AuditPlace:
        """Where the log lies."""
        from airflow_secure_ml.audit_ports import AuditPlace

        settings = self.settings
        return AuditPlace(
            audit_dir=settings.audit_dir,
            store=settings.audit_store,
            passfile=settings.audit_store_passfile,
            subjects_dir=settings.audit_subjects_dir or settings.audit_dir / "subjects",
        )

    @property
    def relay_book(self) -> RelayBook:
        """What the relay remembers; nothing is there before it ran."""
        from airflow_secure_ml.adapters.relay import BOOK_FILE, SqliteBook

        return SqliteBook(self.settings.audit_dir / BOOK_FILE)

    def ensure_sequencer(self) -> None:
        """Start the log's sequencer on this machine, unless one runs or the log is elsewhere."""
        from airflow_secure_ml.audit_sinks import ensure_sequencer

        ensure_sequencer(self.settings, self.audit_place)

    def secured_run(
        self,
        make_plan: Callable[[], Plan],
        *,
        reads: Sequence[str],
        writes: Sequence[str],
        operator: str,
        leases: Sequence[str] = (),
        sink: AuditSink,
        run: RunRef | None,
        still_ours: Callable[[], None],
        tell: Callable[[str], None],
    ) -> SecuredRun:
        """A secured run over this deployment's ports; it has not begun.

        Args:
            make_plan: What is to be read and written.
            reads: Names, for the intent.
            writes: Names, for the intent.
            operator: What runs, for the intent.
            leases: Paths of credentials, for the intent.
            sink: Where its facts go.
            run: The task try; None outside Airflow.
            still_ours: Raises if another try took over.
            tell: Takes one line for each act.
        """
        from airflow_secure_ml.services.journal import Journal
        from airflow_secure_ml.services.secured_run import Declared

        declared = Declared(reads=reads, writes=writes, operator=operator, leases=leases)
        desk = self._desk(run, still_ours)
        return self._make_run(desk, make_plan, declared, Journal(sink, run, tell))

    def _make_run(
        self, desk: Desk, make_plan: Callable[[], Plan], declared: Declared, journal: Journal
    ) -> SecuredRun:
        from airflow_secure_ml.services.secured_run import SecuredRun

        return SecuredRun(desk, make_plan, declared, journal)

    def work(
        self,
        plan: Plan,
        *,
        sink: AuditSink,
        run: RunRef | None,
        still_ours: Callable[[], None],
        tell: Callable[[str], None],
    ) -> Work:
        """What a run that opens nothing works with; arguments as in `secured_run`."""
        from airflow_secure_ml.services.desk import Work
        from airflow_secure_ml.services.journal import Journal

        return Work(desk=self._desk(run, still_ours), plan=plan, journal=Journal(sink, run, tell))

    def _desk(self, run: RunRef | None, still_ours: Callable[[], None]) -> Desk:
        from airflow_secure_ml.services.desk import Desk

        settings = self.settings
        return Desk(
            keys=self.keys,
            store=self.store,
            scratch_store=self.local_objects,
            checker=lambda: self.checker,
            rules=self.rules,
            data_key=settings.data_key,
            signing_key=settings.signing_key,
            trusted_signers=settings.trusted_signers,
            make_scratch=self._make_scratch,
            guard=functools.partial(self._guard, run),
            credentials=self.credentials,
            still_ours=still_ours,
            now_ms=lambda: time.time_ns() // 1_000_000,
            arrow_fields=_arrow_fields,
        )

    def _make_scratch(self, need_bytes: int) -> ScratchDirectory:
        from airflow_secure_ml.adapters.scratch.making import make_scratch, sweep

        sweep(self.settings.scratch_dirs)
        return make_scratch(self.settings.scratch_dirs, need_bytes)

    def _guard(self, run: RunRef | None, root: Path) -> RunGuard:
        from airflow_secure_ml.adapters.guardian_process import Guardian, GuardianAudit
        from airflow_secure_ml.audit_ports import push_target

        settings = self.settings
        audit = GuardianAudit(
            audit_dir=settings.audit_dir,
            spare_dir=settings.audit_spare_dir,
            hide=settings.audit_hide,
            airflow=_airflow_version() or "",
            collector=settings.audit_collector,
            push=push_target(settings),
        )
        return Guardian.start(scratch=[root], run=run, audit=audit)


def _aws_session(conn_id: str) -> AwsSession:
    # Imported here: boto3, and Airflow for its connections, are for who keeps something in AWS.
    from airflow_secure_ml.hooks.aws import aws_session

    return aws_session(conn_id)


def _vault_client(conn_id: str) -> VaultClient:
    # Imported here: hvac, and Airflow for its connections, are for who keeps keys in Vault.
    from airflow_secure_ml.hooks.vault import vault_client

    return vault_client(conn_id)


def _arrow_fields(encoded: bytes, keep: Collection[str]) -> bytes | None:
    # Imported here: only who leaves columns out needs pyarrow.
    from airflow_secure_ml.adapters.parquet import arrow_fields

    return arrow_fields(encoded, keep)


_current: Deployment | None = None


def deployment() -> Deployment:
    """The deployment of this process.

    Raises:
        ConfigurationError: The settings cannot be read.
    """
    global _current
    if _current is None:
        _current = Deployment(load_settings())
    return _current


def use_deployment(other: Deployment | None) -> None:
    """Put another deployment in its place (tests); None: back to the settings."""
    global _current
    _current = other


def _airflow_version() -> str | None:
    airflow = sys.modules.get("airflow")
    return None if airflow is None else str(getattr(airflow, "__version__", "")) or None
