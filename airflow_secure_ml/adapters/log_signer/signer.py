"""What has the log's key: it signs what extends the last checkpoint it signed.

The key signs checkpoints of one log and nothing else; no task may read it. What was signed last
stays beside it, so a store that lost leaves or tells another history gets no signature.

Source: AUDIT_TRAIL, Tree, checkpoint, signer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from airflow_secure_ml.adapters.log_signer.files import (
    KEY_FILE,
    LAST_FILE,
    locked,
    read_private,
    replace,
)
from airflow_secure_ml.adapters.log_signer.key_file import parse_key
from airflow_secure_ml.core.audit.checkpoint import (
    Checkpoint,
    LogKey,
    open_checkpoint,
    sign_checkpoint,
)
from airflow_secure_ml.core.audit.tree import check_consistency
from airflow_secure_ml.errors import AuditLogError, ConfigurationError, SecureMLError


class LogSigner:
    """A CheckpointSigner over a directory that `init_log` made.

    Args:
        audit_signer_dir: The directory.

    Raises:
        ConfigurationError: No key, or one that others can read.
        FormatError: The key file is damaged.
    """

    def __init__(self, audit_signer_dir: Path) -> None:
        self._directory = audit_signer_dir
        text = read_private(audit_signer_dir / KEY_FILE)
        self._key, self._public = parse_key(text)

    @property
    def origin(self) -> str:
        """The log that it signs for."""
        return self._public.name

    @property
    def public(self) -> LogKey:
        """The public key, for every size."""
        return self._public

    def last(self) -> tuple[int, bytes]:
        """Size and root of the last checkpoint signed.

        Raises:
            AuditLogError: The record is missing, damaged, or of another key.
        """
        found, _ = self._last()
        return found.size, found.root

    def sign(self, size: int, root: bytes, proof: Sequence[bytes]) -> str:
        """Sign a tree that extends the last one; durable before it returns the note.

        Raises:
            AuditLogError: Smaller than the last one signed, or not an extension of it.
        """
        with locked(self._directory):
            last, note = self._last()
            check_consistency(last.size, last.root, size, root, proof)
            if size == last.size:
                return note
            return self._sign(size, root)

    def adopt(self, size: int, root: bytes) -> str:
        """Go on from a tree although `last` is missing; a person decided so.

        Raises:
            ConfigurationError: `last` is there: nothing has to be adopted.
        """
        with locked(self._directory):
            if (self._directory / LAST_FILE).exists():
                raise ConfigurationError(
                    f"{self._directory / LAST_FILE}: is there; a log is adopted only without it"
                )
            return self._sign(size, root)

    def _sign(self, size: int, root: bytes) -> str:
        checkpoint = Checkpoint(origin=self.origin, size=size, root=root)
        note = sign_checkpoint(checkpoint, self._public.public_key, self._key.sign)
        replace(self._directory / LAST_FILE, note)
        return note

    def _last(self) -> tuple[Checkpoint, str]:
        path = self._directory / LAST_FILE
        try:
            note = read_private(path)
            return open_checkpoint(note, [self._public], origin=self.origin), note
        except ConfigurationError as error:
            raise AuditLogError(
                f"{path}: what was signed last is not known ({error}); find out why, then run "
                "`secure-ml audit adopt`"
            ) from error
        except SecureMLError as error:
            raise AuditLogError(f"{path}: {error}") from error


def read_last_note(audit_signer_dir: Path) -> str | None:
    """The record of the last checkpoint signed, not verified; None: not this user's to read.

    Read it before the log: what it covers is then in the log that is looked at afterwards.
    """
    try:
        return read_private(audit_signer_dir / LAST_FILE)
    except (ConfigurationError, PermissionError):
        return None
