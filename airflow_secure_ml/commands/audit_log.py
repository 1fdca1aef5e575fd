"""The log as commands read it: where it lies, whose keys may sign it, what people name."""

from __future__ import annotations

from pathlib import Path

from airflow_secure_ml.core.audit.checkpoint import LogKey
from airflow_secure_ml.core.audit.ports import AuditReader
from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.errors import ConfigurationError

_MAX_NOTE_CHARS = 65536


def check_text(*given: str | None) -> None:
    """Refuse text that no event can hold; raises ConfigurationError."""
    for text in given:
        if text is not None and any("\ud800" <= sign <= "\udfff" for sign in text):
            raise ConfigurationError(f"{text!a}: expected UTF-8; no event holds anything else")


def log_reader() -> AuditReader:
    """The log for reading."""
    return deployment().audit_reader()


def log_keys() -> tuple[LogKey, ...]:
    """The keys that may sign it: those of the settings, else those beside the signer."""
    return deployment().log_keys()


def read_note(name: str) -> str:
    """A checkpoint that a person kept, from its file."""
    try:
        with Path(name).open(encoding="utf-8") as stream:
            return stream.read(_MAX_NOTE_CHARS)
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{name}: expected a checkpoint's text") from error
