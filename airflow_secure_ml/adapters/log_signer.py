"""A log's signing key in a file, and the record of the last checkpoint it signed.

The key signs checkpoints of one log and nothing else; no task may read it. What was signed last
stays beside it, so a store that lost leaves or tells another history gets no signature.

Source: AUDIT_TRAIL, Tree, checkpoint, signer.
"""

from __future__ import annotations

import base64
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from airflow_secure_ml.core.audit.checkpoint import (
    ED25519,
    Checkpoint,
    LogKey,
    check_name,
    open_checkpoint,
    sign_checkpoint,
)
from airflow_secure_ml.core.audit.tree import EMPTY_ROOT, check_consistency
from airflow_secure_ml.errors import AuditLogError, ConfigurationError, FormatError, SecureMLError

KEY_FILE = "log.key"
LAST_FILE = "last"
PUBLIC_FILE = "log_keys"
LOCK_FILE = "lock"
# The form in which Go's note package, and so every C2SP tool, keeps a signer's key.
_KEY_HEAD = "PRIVATE+KEY+"
MAX_FILE_BYTES = 16384


def init_log(
    audit_signer_dir: Path,
    audit_log_name: str,
    *,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> str:
    """Make a log's key, once.

    The directory (0700) then holds the key (0600), the public line for others in `log_keys`, and
    `last` over the empty log.

    Args:
        audit_signer_dir: Where the key is to be; must not hold one.
        audit_log_name: Whose log it is, such as `example.org`.
        random_bytes: Source of the key and of the origin's suffix.

    Returns:
        The origin, `<audit_log_name>/asml-trail/<8 hex digits>`.

    Raises:
        ConfigurationError: A key is there already, or the directory is open to others.
        FormatError: The name cannot stand in a checkpoint.
    """
    origin = check_name(f"{audit_log_name}/asml-trail/{random_bytes(4).hex()}")
    audit_signer_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_private(audit_signer_dir, os.stat(audit_signer_dir))
    if (audit_signer_dir / KEY_FILE).exists():
        raise ConfigurationError(
            f"{audit_signer_dir / KEY_FILE}: a log key is there already; it is never replaced"
        )
    seed = random_bytes(32)
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public = LogKey(name=origin, public_key=key.public_key().public_bytes_raw())
    packed = base64.b64encode(bytes([ED25519]) + seed).decode()
    empty = Checkpoint(origin=origin, size=0, root=EMPTY_ROOT)
    _replace(audit_signer_dir / LAST_FILE, sign_checkpoint(empty, public.public_key, key.sign))
    _replace(audit_signer_dir / PUBLIC_FILE, public.line())
    # The key comes last: whoever finds one finds the rest, whenever this was killed.
    _replace(
        audit_signer_dir / KEY_FILE,
        f"{_KEY_HEAD}{origin}+{public.key_id.hex()}+{packed}\n",
        is_new=True,
    )
    return origin


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
        text = _read_private(audit_signer_dir / KEY_FILE)
        self._key, self._public = _parse_key(text)

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
        with self._locked():
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
        with self._locked():
            if (self._directory / LAST_FILE).exists():
                raise ConfigurationError(
                    f"{self._directory / LAST_FILE}: is there; a log is adopted only without it"
                )
            return self._sign(size, root)

    def _sign(self, size: int, root: bytes) -> str:
        checkpoint = Checkpoint(origin=self.origin, size=size, root=root)
        note = sign_checkpoint(checkpoint, self._public.public_key, self._key.sign)
        _replace(self._directory / LAST_FILE, note)
        return note

    def _last(self) -> tuple[Checkpoint, str]:
        path = self._directory / LAST_FILE
        try:
            note = _read_private(path)
            return open_checkpoint(note, [self._public], origin=self.origin), note
        except ConfigurationError as error:
            raise AuditLogError(
                f"{path}: what was signed last is not known ({error}); find out why, then run "
                "`secure-ml audit adopt`"
            ) from error
        except SecureMLError as error:
            raise AuditLogError(f"{path}: {error}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._directory / LOCK_FILE, flags, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def read_log_keys(path: Path) -> str:
    """The text of a `log_keys` file, public but bounded.

    Raises:
        ConfigurationError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES * 16).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"log keys {path}: cannot be read: {error}") from error


def read_last_note(audit_signer_dir: Path) -> str | None:
    """The record of the last checkpoint signed, not verified; None: not this user's to read.

    Read it before the log: what it covers is then in the log that is looked at afterwards.
    """
    try:
        return _read_private(audit_signer_dir / LAST_FILE)
    except (ConfigurationError, PermissionError):
        return None


def _parse_key(text: str) -> tuple[Ed25519PrivateKey, LogKey]:
    parts = text.removeprefix(_KEY_HEAD).strip().split("+", 2)
    try:
        name, identity, packed = parts
        secret = base64.b64decode(packed, validate=True)
        if not text.startswith(_KEY_HEAD) or len(secret) != 33 or secret[0] != ED25519:
            raise ValueError
        key = Ed25519PrivateKey.from_private_bytes(secret[1:])
    except ValueError:
        # Not chained: the cause could carry bytes of the key.
        raise FormatError("log key file: not PRIVATE+KEY+name+id+key, or damaged") from None
    public = LogKey(name=check_name(name), public_key=key.public_key().public_bytes_raw())
    if identity != public.key_id.hex():
        raise FormatError("log key file: its id does not fit its name and key; it is damaged")
    return key, public


def _read_private(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be opened: {error.strerror}; `secure-ml keys init` makes a log's key"
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ConfigurationError(f"{path}: not a plain file")
        _check_private(path, found)
        try:
            return file.read(MAX_FILE_BYTES).decode("utf-8")
        except UnicodeDecodeError:
            raise FormatError(f"{path}: not UTF-8; it is damaged") from None


def _check_private(path: Path, found: os.stat_result) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077 or found.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{path}: mode {mode:04o}, owner {found.st_uid}; the log's key is for uid "
            f"{os.geteuid()} alone: chmod go= and chown it"
        )


def _replace(path: Path, text: str, *, is_new: bool = False) -> None:
    """Write aside, fsync, rename (link if nothing may be there), fsync the directory."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(descriptor)
        if is_new:
            os.link(aside, path)
        else:
            os.rename(aside, path)
    except FileExistsError as error:
        raise ConfigurationError(f"{path}: is there already; it is never replaced") from error
    finally:
        aside.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
