"""The signer's directory: the keys in use, those that follow them, and the sizes of all.

Every change is a rename; which one was the last tells what a killed process left undone.

Source: AUDIT_TRAIL, Tree, checkpoint, signer.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from airflow_secure_ml.adapters.log_signer.files import (
    KEY_FILE,
    LAST_FILE,
    NEXT_FILE,
    PUBLIC_FILE,
    check_private,
    locked,
    move_over,
    read_log_keys,
    read_private,
    replace,
)
from airflow_secure_ml.adapters.log_signer.key_file import (
    Find,
    KeyElsewhere,
    SigningKey,
    make_keys,
    parse_keys,
)
from airflow_secure_ml.core.audit.checkpoint import Checkpoint, sign_with
from airflow_secure_ml.core.audit.log_key import LogKey, check_name, parse_log_keys
from airflow_secure_ml.core.audit.tree import EMPTY_ROOT
from airflow_secure_ml.errors import ConfigurationError


class KeyDirectory:
    """The files of one log's signer.

    Args:
        path: The directory.
        find: Leads to keys that lie elsewhere; None: nothing does.
    """

    def __init__(self, path: Path, find: Find | None = None) -> None:
        self.path, self._find = path, find

    def in_use(self) -> tuple[SigningKey, ...]:
        """The keys in use.

        Raises:
            ConfigurationError: None are there, or others can read them.
            FormatError: Their file is damaged.
        """
        return parse_keys(read_private(self.path / KEY_FILE), self._find)

    def successors(self) -> tuple[SigningKey, ...]:
        """The keys that follow those in use; empty: none were made. Errors as `in_use`."""
        path = self.path / NEXT_FILE
        return parse_keys(read_private(path), self._find) if os.path.lexists(path) else ()

    def public(self) -> tuple[LogKey, ...]:
        """Every public key that the log had, with its sizes.

        Raises:
            ConfigurationError: The file cannot be read.
            FormatError: It is damaged.
        """
        return parse_log_keys(read_log_keys(self.path / PUBLIC_FILE))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only process that signs or changes keys."""
        with locked(self.path):
            yield

    def change(self, keys: Sequence[LogKey]) -> None:
        """Let the successors take over; `keys` are all public keys then."""
        replace(self.path / PUBLIC_FILE, "".join(key.line() for key in keys))
        self.finish()

    def finish(self) -> None:
        """Do what is left of a change that was killed; nothing if none was."""
        successors = self.successors()
        if not successors:
            return
        in_use = {key.key_id for key in self.public() if key.to_size is None}
        if {key.public.key_id for key in successors} <= in_use:
            move_over(self.path / NEXT_FILE, self.path / KEY_FILE)


def init_log(
    audit_signer_dir: Path,
    audit_log_name: str,
    *,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    at: KeyElsewhere | None = None,
    post_quantum: bool = False,
) -> str:
    """Make a log's keys, once.

    The directory (0700) then holds the keys (0600), the public lines for others in `log_keys`,
    and `last` over the empty log.

    Args:
        audit_signer_dir: Where the keys are to be; must not hold any.
        audit_log_name: Whose log it is, such as `example.org`.
        random_bytes: Source of the keys and of the origin's suffix.
        at: The Ed25519 key, where it lies elsewhere; None: it is made here.
        post_quantum: Whether notes get a second signature, of ML-DSA-65.

    Returns:
        The origin, `<audit_log_name>/asml-trail/<8 hex digits>`.

    Raises:
        ConfigurationError: A key is there already, or the directory is open to others.
        FormatError: The name cannot stand in a checkpoint.
    """
    origin = check_name(f"{audit_log_name}/asml-trail/{random_bytes(4).hex()}")
    audit_signer_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_private(audit_signer_dir, os.stat(audit_signer_dir))
    if (audit_signer_dir / KEY_FILE).exists():
        raise ConfigurationError(
            f"{audit_signer_dir / KEY_FILE}: a log key is there already; it is never replaced"
        )
    keys = make_keys(origin, random_bytes=random_bytes, at=at, post_quantum=post_quantum)
    empty = Checkpoint(origin=origin, size=0, root=EMPTY_ROOT)
    note = sign_with(empty, [(key.public, key.sign) for key in keys])
    replace(audit_signer_dir / LAST_FILE, note)
    replace(audit_signer_dir / PUBLIC_FILE, "".join(key.public.line() for key in keys))
    # The keys come last: whoever finds them finds the rest, whenever this was killed.
    replace(audit_signer_dir / KEY_FILE, "".join(key.text for key in keys), is_new=True)
    return origin


def prepare_successors(
    audit_signer_dir: Path,
    *,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    at: KeyElsewhere | None = None,
    post_quantum: bool = False,
) -> tuple[LogKey, ...]:
    """Make the keys that follow those in use; the log's next checkpoint hands over to them.

    Where they were made before, those are kept.

    Args:
        audit_signer_dir: The signer's directory.
        random_bytes: Source of the keys.
        at: The next Ed25519 key, where it lies elsewhere; None: it is made here.
        post_quantum: Whether notes get a second signature, of ML-DSA-65, from then on.

    Returns:
        The public halves; their sizes are not known yet.

    Raises:
        ConfigurationError: No keys are there, a key elsewhere is or was one of this log's, or
            successors of another kind were made before.
    """
    files = KeyDirectory(audit_signer_dir)
    with files.locked():
        files.finish()
        known = files.public()
        found = files.successors()
        if not found:
            taken = {key.key_id for key in known}
            origin = files.in_use()[0].public.name
            found = make_keys(
                origin, random_bytes=random_bytes, at=at, post_quantum=post_quantum, taken=taken
            )
            text = "".join(key.text for key in found)
            replace(audit_signer_dir / NEXT_FILE, text, is_new=True)
        elif at is not None and found[0].public.public_key != at.public_key:
            raise ConfigurationError(
                f"{audit_signer_dir / NEXT_FILE}: another key is to follow already; let that be "
                "carried out, then rotate again"
            )
        return tuple(key.public for key in found)
