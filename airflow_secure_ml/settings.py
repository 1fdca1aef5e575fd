"""The section [secure_ml] of Airflow's configuration, as one frozen value.

The only reader of it. Read through Airflow where Airflow is loaded, and by standard library
elsewhere (console script): the same sources in the same order, checked by the same code. What an
option means and its default stand in `get_provider_info`; secrets are never options.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_secure_ml.core.crypto_policy import CryptoPolicy
from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.settings_sources import (
    SECTION,
    airflow_is_loaded,
    declared_options,
    read_texts,
)
from airflow_secure_ml.settings_values import PARSERS

if TYPE_CHECKING:
    from airflow_secure_ml.core.audit.cosignature import Witness
    from airflow_secure_ml.core.audit.relay_options import StampServer
    from airflow_secure_ml.core.audit.siem import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every option of [secure_ml], parsed.

    Attributes:
        key_system: Address of the key system, such as `local:///path`.
        data_key: Key that seals where no other is named.
        signing_key: Key that signs every output.
        trusted_signers: Keys whose signature is accepted by default.
        key_names: Names that lie in another key system, with its address.
        key_groups: Names that stand for several keys to seal to.
        keyring_passphrase_path: A private file with the keyring's passphrase; None: it has none.
        policy_file: The rules; None: no rules.
        crypto_policy: What may be written, and still read: suites, slots, signatures, digests.
        vault_conn_id: The Airflow connection to Vault where no other is named.
        aws_conn_id: The Airflow connection of S3 and KMS where no other is named; empty: none,
            boto3 finds credentials and region.
        s3_connections: Buckets with another connection, with its id.
        pkcs11_module: Library that leads to PKCS#11 tokens; None: none is used.
        pkcs11_pin_path: File with their PIN; None: none is used.
        xcom_key: Wrap key of sealed XCom values; None: `data_key`.
        xcom_keys_dir: Where the sealed XCom's wrapped data-set keys lie.
        xcom_read_unsealed: Whether XCom values from before sealing are read.
        scratch_dirs: Directories for opened data, in the order they are tried.
        digest_memory_dir: What `verify --recheck` remembers.
        audit_dir: Spool and store of the audit trail.
        audit_spare_dir: Where the spool goes on when `audit_dir` is full; None: nowhere.
        audit_subjects_dir: The keys of those whom hidden values name; None: below `audit_dir`.
        audit_signer_dir: The log key and the last signed checkpoint.
        audit_signer: Where the log's key is made: `local`, in that directory, or an address in
            Vault or AWS KMS.
        audit_collector: The collector's socket; None: the spool in `audit_dir`.
        audit_spool: `local`, `shared` or `push`.
        audit_inbox: With `push`: address of the inbox's database; empty: none.
        audit_inbox_passfile: libpq's pass file for it; None: none.
        audit_ingest_url: With `push`: address of an API server that takes events; empty: none.
        audit_ingest_token_path: A private file with the token for that; None: none.
        audit_signer_socket: Where the signer listens that is a process of its own; None: the
            sequencer has the key.
        audit_log_name: First part of the log's name, taken when the log is made.
        audit_log_keys: For `core.audit.checkpoint.parse_log_keys`; empty: the key in
            `audit_signer_dir`.
        audit_store: `sqlite`, or the address of a database, which holds no secret.
        audit_store_passfile: libpq's pass file; None: none.
        audit_witnesses: Who is asked to cosign checkpoints.
        audit_witness_quorum: How many of them have to have cosigned.
        audit_anchor: Where checkpoints are locked, `s3://bucket/prefix`; empty: nowhere.
        audit_anchor_days: For how many days.
        audit_timestamp_url: Who stamps the time on checkpoints; None: nobody.
        audit_timestamp_ca: The certificates that time stamps lead to; None: none.
        siem_url: Where events are posted; empty: nowhere.
        siem_events: Beginnings of the activities that receivers get; empty: every event.
        siem_format: In which form: `ocsf`, `cloudevents` or `otlp`.
        siem_syslog: Where they are sent by syslog over TLS; None: nowhere.
        siem_ca: The certificates to trust for both; None: those of the system.
        siem_token_path: A private file with the bearer token for `siem_url`; None: none is sent.
        audit_rules_dir: Alert rules of the deployment's own; None: none.
        audit_rules_off: Names of alert rules that are not evaluated; `all`: none is.
        alert_notifier: Path of an Airflow notifier that is told of alerts; empty: none is.
        alert_notifier_level: From this level on.
        audit_retention_days: How long events keep their bytes at least, and what `audit prune`
            takes where it is not told; 0: it has to be told.
        audit_hide: Dotted names of event fields whose text is kept aside.
        audit_unavailable: `refuse` or `continue`.
        listener: Whether Airflow's callbacks are recorded.
        reconcile_every_s: Seconds between two checks of coverage beside a scheduler; 0: none.
        record_reads: Whether requests to Airflow's API server are recorded.
    """

    key_system: str
    data_key: str
    signing_key: str
    trusted_signers: tuple[str, ...]
    key_names: Mapping[str, str]
    key_groups: Mapping[str, tuple[str, ...]]
    keyring_passphrase_path: Path | None
    policy_file: Path | None
    crypto_policy: CryptoPolicy
    vault_conn_id: str
    aws_conn_id: str
    s3_connections: Mapping[str, str]
    pkcs11_module: Path | None
    pkcs11_pin_path: Path | None
    xcom_key: str | None
    xcom_keys_dir: Path
    xcom_read_unsealed: bool
    scratch_dirs: tuple[Path, ...]
    digest_memory_dir: Path
    audit_dir: Path
    audit_spare_dir: Path | None
    audit_subjects_dir: Path | None
    audit_signer_dir: Path
    audit_signer: str
    audit_collector: Path | None
    audit_spool: str
    audit_inbox: str
    audit_inbox_passfile: Path | None
    audit_ingest_url: str
    audit_ingest_token_path: Path | None
    audit_signer_socket: Path | None
    audit_log_name: str
    audit_log_keys: str
    audit_store: str
    audit_store_passfile: Path | None
    audit_witnesses: tuple[Witness, ...]
    audit_witness_quorum: int
    audit_anchor: str
    audit_anchor_days: int
    audit_timestamp_url: StampServer | None
    audit_timestamp_ca: Path | None
    siem_url: str
    siem_events: tuple[str, ...]
    siem_format: str
    siem_syslog: Place | None
    siem_ca: Path | None
    siem_token_path: Path | None
    audit_rules_dir: Path | None
    audit_rules_off: tuple[str, ...]
    alert_notifier: str
    alert_notifier_level: str
    audit_retention_days: int
    audit_hide: tuple[str, ...]
    audit_unavailable: str
    listener: bool
    reconcile_every_s: int
    record_reads: bool

    @property
    def continues_without_audit(self) -> bool:
        """Whether a task goes on when its acts cannot be recorded."""
        return self.audit_unavailable == "continue"

    @property
    def has_relay_work(self) -> bool:
        """Whether something goes out after the fact."""
        asked = (self.audit_witnesses, self.audit_anchor, self.audit_timestamp_url)
        told = (self.siem_url, self.siem_syslog, self.alert_notifier)
        return any((*asked, *told, self.has_alert_rules))

    @property
    def has_alert_rules(self) -> bool:
        """Whether alert rules are evaluated."""
        return "all" not in self.audit_rules_off

    @property
    def takes_ingest(self) -> bool:
        """Whether an API server here may take events, so that a sequencer follows those."""
        return self.audit_ingest_token_path is not None


_cached: Settings | None = None
_lock = threading.Lock()


def load_settings(*, with_airflow: bool | None = None) -> Settings:
    """Return the settings, read on first use and then kept for this process.

    Args:
        with_airflow: Read through Airflow's own reader. None: if Airflow is loaded already.

    Raises:
        ConfigurationError: An option holds what is not allowed; names section and option.
    """
    global _cached
    with _lock:
        if _cached is None:
            through = airflow_is_loaded() if with_airflow is None else with_airflow
            _cached = parse_settings(read_texts(with_airflow=through))
        return _cached


def load_settings_without_airflow() -> Settings:
    """Read the settings anew by standard library alone; errors as in `load_settings`."""
    return parse_settings(read_texts(with_airflow=False))


def reset_settings() -> None:
    """Forget what was read, so that a test can read another environment."""
    global _cached
    with _lock:
        _cached = None


def parse_settings(texts: Mapping[str, str]) -> Settings:
    """Make settings from the text of every option.

    Args:
        texts: Text by option; an option left out has its declared default.

    Raises:
        ConfigurationError: An unknown option, or a text that is not allowed.
    """
    merged = declared_options()
    if unknown := sorted(set(texts) - set(merged)):
        raise ConfigurationError(
            f"[{SECTION}] {', '.join(unknown)}: no such option; allowed: {', '.join(merged)}"
        )
    merged.update(texts)
    values: dict[str, Any] = {
        field.name: PARSERS[field.name](field.name, merged[field.name].strip())
        for field in fields(Settings)
    }
    return Settings(**values)
