"""A log's signing key in a file of its own.

Source: AUDIT_TRAIL, Tree, checkpoint, signer.
"""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from airflow_secure_ml.adapters.log_signer.files import (
    KEY_FILE,
    LAST_FILE,
    PUBLIC_FILE,
    check_private,
    replace,
)
from airflow_secure_ml.core.audit.checkpoint import (
    ED25519,
    Checkpoint,
    LogKey,
    check_name,
    sign_checkpoint,
)
from airflow_secure_ml.core.audit.tree import EMPTY_ROOT
from airflow_secure_ml.errors import ConfigurationError, FormatError

# The form in which Go's note package, and so every C2SP tool, keeps a signer's key.
_KEY_HEAD = "PRIVATE+KEY+"


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
    check_private(audit_signer_dir, os.stat(audit_signer_dir))
    if (audit_signer_dir / KEY_FILE).exists():
        raise ConfigurationError(
            f"{audit_signer_dir / KEY_FILE}: a log key is there already; it is never replaced"
        )
    seed = random_bytes(32)
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public = LogKey(name=origin, public_key=key.public_key().public_bytes_raw())
    packed = base64.b64encode(ED25519 + seed).decode()
    empty = Checkpoint(origin=origin, size=0, root=EMPTY_ROOT)
    replace(audit_signer_dir / LAST_FILE, sign_checkpoint(empty, public.public_key, key.sign))
    replace(audit_signer_dir / PUBLIC_FILE, public.line())
    # The key comes last: whoever finds one finds the rest, whenever this was killed.
    replace(
        audit_signer_dir / KEY_FILE,
        f"{_KEY_HEAD}{origin}+{public.key_id.hex()}+{packed}\n",
        is_new=True,
    )
    return origin


def parse_key(text: str) -> tuple[Ed25519PrivateKey, LogKey]:
    parts = text.removeprefix(_KEY_HEAD).strip().split("+", 2)
    try:
        name, identity, packed = parts
        secret = base64.b64decode(packed, validate=True)
        if not text.startswith(_KEY_HEAD) or len(secret) != 33 or secret[:1] != ED25519:
            raise ValueError
        key = Ed25519PrivateKey.from_private_bytes(secret[1:])
    except ValueError:
        # Not chained: the cause could carry bytes of the key.
        raise FormatError("log key file: not PRIVATE+KEY+name+id+key, or damaged") from None
    public = LogKey(name=check_name(name), public_key=key.public_key().public_bytes_raw())
    if identity != public.key_id.hex():
        raise FormatError("log key file: its id does not fit its name and key; it is damaged")
    return key, public
