"""What has the log's keys: it signs what extends the last checkpoint it signed.

The keys sign checkpoints of one log and nothing else; no task may read them. What was signed last
stays beside them, so a store that lost leaves or tells another history gets no signature.

Source: AUDIT_TRAIL, Tree, checkpoint, signer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from airflow_secure_ml.adapters.log_signer.directory import KeyDirectory
from airflow_secure_ml.adapters.log_signer.files import LAST_FILE, read_private, replace
from airflow_secure_ml.adapters.log_signer.key_file import Find, SigningKey
from airflow_secure_ml.core.audit.checkpoint import Checkpoint, open_checkpoint, sign_with
from airflow_secure_ml.core.audit.handing_over import check_announced
from airflow_secure_ml.core.audit.log_key import LogKey, hand_over
from airflow_secure_ml.core.audit.tree import check_consistency
from airflow_secure_ml.errors import AuditLogError, ConfigurationError, SecureMLError


class LogSigner:
    """A CheckpointSigner over a directory that `init_log` made.

    The keys are read anew for each signature: they change while it lives.

    Args:
        audit_signer_dir: The directory.
        find: Leads to keys that lie elsewhere; None: nothing does.

    Raises:
        ConfigurationError: No key, or one that others can read.
        FormatError: The key file is damaged.
    """

    def __init__(self, audit_signer_dir: Path, find: Find | None = None) -> None:
        self._directory = audit_signer_dir
        self._files = KeyDirectory(audit_signer_dir, find)
        self._origin = self._files.in_use()[0].public.name

    @property
    def origin(self) -> str:
        """The log that it signs for."""
        return self._origin

    @property
    def public(self) -> LogKey:
        """The public half of the Ed25519 key that signs now, with its sizes."""
        now = self._files.in_use()[0].public
        return next((key for key in self._files.public() if key.key_id == now.key_id), now)

    def last(self) -> tuple[int, bytes]:
        """Size and root of the last checkpoint signed.

        Raises:
            AuditLogError: The record is missing, damaged, or of another key.
        """
        found, _ = self._last()
        return found.size, found.root

    def successors(self) -> tuple[LogKey, ...]:
        """The keys that are to follow those in use; empty: none was made."""
        return tuple(key.public for key in self._files.successors())

    def in_use(self) -> tuple[LogKey, ...]:
        """The public halves of the keys in use."""
        return tuple(key.public for key in self._files.in_use())

    def sign(self, size: int, root: bytes, proof: Sequence[bytes]) -> str:
        """Sign a tree that extends the last one; durable before it returns the note.

        Raises:
            AuditLogError: Smaller than the last one signed, not an extension of it, or outside
                the sizes of the keys in use.
        """
        with self._locked():
            return self._extended(size, root, proof)

    def hand_over(
        self, size: int, root: bytes, proof: Sequence[bytes], leaf: bytes, path: Sequence[bytes]
    ) -> str:
        """Sign for the last time with the keys in use; their successors sign all larger trees.

        Args:
            size: Number of leaves.
            root: The tree's root.
            proof: Consistency proof from the last signed size.
            leaf: The tree's last leaf, the trail.key that names the successors.
            path: Its audit path.

        Raises:
            AuditLogError: As `sign`, or the leaf is not that, or not in the tree.
            ConfigurationError: No successor was made.
        """
        with self._locked():
            successors = self.successors()
            if not successors:
                raise ConfigurationError(
                    "log keys: no successor is there; `secure-ml audit rotate-key` makes one"
                )
            check_announced(leaf, path, size=size, root=root, new=successors)
            keys = hand_over(self._files.public(), successors, size)
            note = self._extended(size, root, proof)
            # From here on a killed hand-over is finished by whoever takes the lock next.
            self._files.change(keys)
            return note

    def adopt(self, size: int, root: bytes) -> str:
        """Go on from a tree although `last` is missing; a person decided so.

        Raises:
            ConfigurationError: `last` is there: nothing has to be adopted.
        """
        with self._locked():
            if (self._directory / LAST_FILE).exists():
                raise ConfigurationError(
                    f"{self._directory / LAST_FILE}: is there; a log is adopted only without it"
                )
            return self._sign(size, root)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._files.locked():
            self._files.finish()
            yield

    def _extended(self, size: int, root: bytes, proof: Sequence[bytes]) -> str:
        last, note = self._last()
        check_consistency(last.size, last.root, size, root, proof)
        return note if size == last.size else self._sign(size, root)

    def _sign(self, size: int, root: bytes) -> str:
        keys = self._files.in_use()
        self._check_sizes(keys, size)
        checkpoint = Checkpoint(origin=self.origin, size=size, root=root)
        note = sign_with(checkpoint, [(key.public, key.sign) for key in keys])
        replace(self._directory / LAST_FILE, note)
        return note

    def _check_sizes(self, keys: Sequence[SigningKey], size: int) -> None:
        known = {key.key_id: key for key in self._files.public()}
        for key in keys:
            found = known.get(key.public.key_id)
            if found is None or not found.covers(size):
                sizes = "none" if found is None else f"{found.from_size} to {found.to_size or '…'}"
                raise AuditLogError(
                    f"log key {key.public.key_id.hex()}: asked to sign {size} leaves, its sizes "
                    f"are {sizes}, by log_keys beside it"
                )

    def _last(self) -> tuple[Checkpoint, str]:
        path = self._directory / LAST_FILE
        try:
            note = read_private(path)
            return open_checkpoint(note, self._files.public(), origin=self.origin), note
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
