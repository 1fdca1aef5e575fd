"""What the text of each option of [secure_ml] stands for.

A text that is not allowed is refused with its section and option, and shown unless it may hold a
password.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from airflow_secure_ml.core.alerts.levels import LEVELS
from airflow_secure_ml.core.crypto_policy import CryptoPolicy, parse_crypto_policy
from airflow_secure_ml.core.redaction import check_hide
from airflow_secure_ml.errors import ConfigurationError, FormatError
from airflow_secure_ml.settings_sources import SECTION

# A message shows the start of what was found, not a whole file pasted into an option.
_MAX_SHOWN = 60
MAX_RETENTION_DAYS = 36_500
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_CONN_ID = re.compile(r"[A-Za-z0-9_.:#/-]{1,250}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_LOG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^\x00\r\n]+")
_KEY_ADDRESS = re.compile(rf"{_ADDRESS.pattern}|hpke:[A-Za-z0-9:_-]+")
_INGEST_URL = re.compile(
    r"(https://[A-Za-z0-9._\[\]:-]+|http://(127\.0\.0\.1|\[::1\]|localhost)(:[0-9]{1,5})?)"
    r"(/[A-Za-z0-9._~/-]*)?"
)
_SPOOLS = "local, shared, push"
_DIGITS = re.compile(r"[0-9]{1,5}", re.ASCII)
_IMPORT_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+", re.ASCII)
_FIELD = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")


def _refuse(option: str, found: str, allowed: str) -> NoReturn:
    shown = found if len(found) <= _MAX_SHOWN else found[:_MAX_SHOWN] + "…"
    raise ConfigurationError(f"[{SECTION}] {option}: found {shown!r}; allowed: {allowed}")


def _matching(pattern: re.Pattern[str], allowed: str) -> Callable[[str, str], str]:
    def parse(option: str, text: str) -> str:
        return text if pattern.fullmatch(text) else _refuse(option, text, allowed)

    return parse


_name = _matching(_NAME, "a key's name: letters, digits, `_`, `.`, `-`, at most 128")
_address = _matching(_ADDRESS, "an address such as local:///etc/airflow/keyring.json")
_key_address = _matching(
    _KEY_ADDRESS, "an address such as local:///…, or hpke:… as `keys export-public` prints it"
)
_conn_id = _matching(_CONN_ID, "a connection's id: letters, digits, `_`, `.`, `-`, `:`, `#`, `/`")
_bucket = _matching(_BUCKET, "a bucket's name: 3 to 63 lower-case letters, digits, `.`, `-`")
_log_name = _matching(_LOG_NAME, "letters, digits, `.`, `_`, `/`, `-`, at most 200")


def _name_or_none(option: str, text: str) -> str | None:
    return _name(option, text) if text else None


def _conn_id_or_none(option: str, text: str) -> str:
    return _conn_id(option, text) if text else ""


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _names(option: str, text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_name(option, item) for item in _items(text)))


def _pairs(option: str, text: str, allowed: str) -> list[tuple[str, Any]]:
    """The pairs of a JSON object, as a list so that a name given twice is seen."""
    if not text:
        return []
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):
        _refuse(option, text, allowed)
    if not text.startswith("{"):
        _refuse(option, text, allowed)
    if len({name for name, _ in pairs}) != len(pairs):
        _refuse(option, text, "each name once")
    return [(_name(option, name), value) for name, value in pairs]


def _key_names(option: str, text: str) -> Mapping[str, str]:
    allowed = 'a JSON object of name to address, such as {"partner": "local:///…"}'
    pairs = _pairs(option, text, allowed)
    if not all(isinstance(address, str) for _, address in pairs):
        _refuse(option, text, allowed)
    return {name: _key_address(option, address) for name, address in pairs}


def _key_groups(option: str, text: str) -> Mapping[str, tuple[str, ...]]:
    allowed = 'a JSON object of name to names of keys, such as {"partners": ["data", "ann"]}'
    groups: dict[str, tuple[str, ...]] = {}
    pairs = _pairs(option, text, allowed)
    for name, names in pairs:
        if not isinstance(names, list) or not names:
            _refuse(option, text, allowed)
        if not all(isinstance(each, str) for each in names):
            _refuse(option, text, allowed)
        groups[name] = tuple(dict.fromkeys(_name(option, each) for each in names))
    if any(each in groups for names in groups.values() for each in names):
        _refuse(option, text, "names of keys in a group, not of groups")
    return groups


def _s3_connections(option: str, text: str) -> Mapping[str, str]:
    allowed = 'a JSON object of bucket to connection id, such as {"models": "aws_models"}'
    pairs = [
        (_bucket(option, bucket), conn_id) for bucket, conn_id in _pairs(option, text, allowed)
    ]
    if not all(isinstance(conn_id, str) for _, conn_id in pairs):
        _refuse(option, text, allowed)
    return {bucket: _conn_id(option, conn_id) for bucket, conn_id in pairs}


def _path(option: str, text: str) -> Path:
    if not text.startswith("/") or "\0" in text:
        _refuse(option, text, "an absolute path")
    return Path(text)


def _path_or_none(option: str, text: str) -> Path | None:
    return _path(option, text) if text else None


def _paths(option: str, text: str) -> tuple[Path, ...]:
    if not _items(text):
        _refuse(option, text, "one absolute path or more, separated by commas")
    return tuple(_path(option, item) for item in _items(text))


def _log_keys(option: str, text: str) -> str:
    if text:
        # Imported here: it needs the cryptography library, which a command may do without.
        from airflow_secure_ml.core.audit.checkpoint import parse_log_keys

        try:
            parse_log_keys(text)
        except FormatError as error:
            raise ConfigurationError(f"[{SECTION}] {option}: {error}") from error
    return text


def _audit_signer(option: str, text: str) -> str:
    if text != "local" and not text.startswith(("vault://", "awskms://")):
        _refuse(option, text, "local, vault://<mount>?key=<name>, awskms://<key>")
    return text


def _audit_store(option: str, text: str) -> str:
    if text == "sqlite":
        return text
    if text == "airflow":
        raise ConfigurationError(
            f"[{SECTION}] {option}: Airflow's own database is not offered: whoever Airflow logs "
            "in as could change the log; give it a database and logins of its own, "
            "postgresql://user@host:port/database"
        )
    return _database(option, text)


def _database(option: str, text: str) -> str:
    # Imported here: most deployments keep the log in a file.
    from airflow_secure_ml.adapters.postgres_audit.address import parse_address

    # What it refuses is never shown: there may be a password in it.
    try:
        parse_address(text)
    except ConfigurationError as error:
        message = str(error).replace("audit_store", option)
        raise ConfigurationError(f"[{SECTION}] {message}") from None
    return text


def _audit_spool(option: str, text: str) -> str:
    return text if text in ("local", "shared", "push") else _refuse(option, text, _SPOOLS)


def _audit_inbox(option: str, text: str) -> str:
    return _database(option, text) if text else ""


def _ingest_url(option: str, text: str) -> str:
    # Not shown: there may be a password in it.
    if text and not _INGEST_URL.fullmatch(text):
        raise ConfigurationError(
            f"[{SECTION}] {option}: expected https://host/path/secure-ml/ingest without a user, a "
            "password or a question mark; http to 127.0.0.1, [::1] or localhost alone"
        )
    return text


def _read_by(module: str, function: str) -> Callable[[str, str], Any]:
    def parse(option: str, text: str) -> Any:
        # Imported here: it needs the cryptography library, which a command may do without.
        found = importlib.import_module(f"airflow_secure_ml.core.audit.{module}")
        try:
            return getattr(found, function)(text)
        except ConfigurationError as error:
            raise ConfigurationError(f"[{SECTION}] {option}: {error}") from error

    return parse


def _hidden(option: str, text: str) -> tuple[str, ...]:
    for item in _items(text):
        if not _FIELD.fullmatch(item):
            _refuse(option, item, "dotted names of fields, such as object.uri")
    check_hide(_items(text))
    return tuple(dict.fromkeys(_items(text)))


def _crypto_policy(option: str, text: str) -> CryptoPolicy:
    return parse_crypto_policy(text)


def _unavailable(option: str, text: str) -> str:
    return text if text in ("refuse", "continue") else _refuse(option, text, "refuse, continue")


def _switch(option: str, text: str) -> bool:
    # The same words as Airflow's own getboolean.
    if text.lower() in ("true", "t", "1"):
        return True
    if text.lower() in ("false", "f", "0"):
        return False
    _refuse(option, text, "true, false")


def _seconds_or_never(option: str, text: str) -> int:
    allowed = "0, or whole seconds from 10 to 86400"
    if not _DIGITS.fullmatch(text) or int(text) not in (0, *range(10, 86_401)):
        _refuse(option, text, allowed)
    return int(text)


def _import_path(option: str, text: str) -> str:
    if text and not _IMPORT_PATH.fullmatch(text):
        _refuse(option, text, "a path such as my_alerts.notifier")
    return text


def _level(option: str, text: str) -> str:
    return text if text in LEVELS else _refuse(option, text, ", ".join(LEVELS))


def _days_or_none(option: str, text: str) -> int:
    if not _DIGITS.fullmatch(text) or int(text) > MAX_RETENTION_DAYS:
        _refuse(option, text, f"0, or whole days from 1 to {MAX_RETENTION_DAYS}")
    return int(text)


PARSERS: Mapping[str, Callable[[str, str], Any]] = {
    "key_system": _address,
    "data_key": _name,
    "signing_key": _name,
    "trusted_signers": _names,
    "key_names": _key_names,
    "key_groups": _key_groups,
    "keyring_passphrase_path": _path_or_none,
    "policy_file": _path_or_none,
    "crypto_policy": _crypto_policy,
    "vault_conn_id": _conn_id,
    "aws_conn_id": _conn_id_or_none,
    "s3_connections": _s3_connections,
    "pkcs11_module": _path_or_none,
    "pkcs11_pin_path": _path_or_none,
    "xcom_key": _name_or_none,
    "xcom_keys_dir": _path,
    "xcom_read_unsealed": _switch,
    "scratch_dirs": _paths,
    "digest_memory_dir": _path,
    "audit_dir": _path,
    "audit_spare_dir": _path_or_none,
    "audit_subjects_dir": _path_or_none,
    "audit_signer_dir": _path,
    "audit_signer": _audit_signer,
    "audit_collector": _path_or_none,
    "audit_spool": _audit_spool,
    "audit_inbox": _audit_inbox,
    "audit_inbox_passfile": _path_or_none,
    "audit_ingest_url": _ingest_url,
    "audit_ingest_token_path": _path_or_none,
    "audit_signer_socket": _path_or_none,
    "audit_log_name": _log_name,
    "audit_log_keys": _log_keys,
    "audit_store": _audit_store,
    "audit_store_passfile": _path_or_none,
    "audit_witnesses": _read_by("cosignature", "parse_witnesses"),
    "audit_witness_quorum": _read_by("relay_options", "parse_quorum"),
    "audit_anchor": _read_by("relay_options", "parse_anchor"),
    "audit_anchor_days": _read_by("relay_options", "parse_anchor_days"),
    "audit_timestamp_url": _read_by("relay_options", "parse_stamp_server"),
    "audit_timestamp_ca": _path_or_none,
    "siem_url": _read_by("siem", "parse_siem_url"),
    "siem_events": _read_by("siem", "parse_siem_events"),
    "siem_format": _read_by("siem", "parse_siem_format"),
    "siem_syslog": _read_by("siem", "parse_siem_syslog"),
    "siem_ca": _path_or_none,
    "siem_token_path": _path_or_none,
    "audit_rules_dir": _path_or_none,
    "audit_rules_off": _names,
    "alert_notifier": _import_path,
    "alert_notifier_level": _level,
    "audit_retention_days": _days_or_none,
    "audit_hide": _hidden,
    "audit_unavailable": _unavailable,
    "listener": _switch,
    "reconcile_every_s": _seconds_or_never,
    "record_reads": _switch,
}
