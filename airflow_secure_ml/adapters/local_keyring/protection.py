"""Keep a keyring's text under a passphrase, where it has one: asked for once in a process.

The derived key stays in this process, by the file's salt; the passphrase itself does not.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable

from airflow_secure_ml.core.keyring.passphrase import (
    COST,
    NONCE_BYTES,
    SALT_BYTES,
    Kdf,
    check_passphrase,
    derive,
    open_text,
    parse_sealed,
    seal_text,
)
from airflow_secure_ml.core.sealed_file.keys import wipe
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError

# A process has one keyring, seldom a second; more are a change of passphrase.
_MAX_KEPT = 8
_kept: dict[Kdf, bytearray] = {}
_lock = threading.Lock()

AskPassphrase = Callable[[], Secret]


def _unlock_in_child() -> None:
    # Another thread may have held it when this process was forked.
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_unlock_in_child)


def open_file(data: bytearray, ask: AskPassphrase, *, where: str) -> tuple[bytearray, Kdf | None]:
    """The keyring's text, and what it was under; the caller wipes the text.

    Raises:
        ConfigurationError: Another passphrase, none to be had, or the file was altered.
    """
    found = parse_sealed(data, where=where)
    if found is None:
        return data, None
    with _lock:
        kept = _kept.get(found.kdf)
        key = derive(ask(), found.kdf) if kept is None else kept
        try:
            text = open_text(found, key, where=where)
        except ConfigurationError:
            if kept is None:
                wipe(key)
            raise
        _keep(found.kdf, key)
    return text, found.kdf


def seal_file(text: bytes, kdf: Kdf | None) -> bytes:
    """A keyring's text as its file holds it: plain where it is under nothing."""
    if kdf is None:
        return text
    with _lock:
        return seal_text(text, _kept[kdf], kdf, secrets.token_bytes(NONCE_BYTES))


def new_protection(passphrase: Secret, *, cost: int = COST) -> Kdf:
    """Derive a key from a new passphrase, and keep it for `seal_file`.

    Raises:
        ConfigurationError: A passphrase that is too short or too long.
    """
    check_passphrase(passphrase)
    kdf = Kdf(salt=secrets.token_bytes(SALT_BYTES), cost=cost)
    key = derive(passphrase, kdf)
    with _lock:
        _keep(kdf, key)
    return kdf


def unprotected(where: str) -> ConfigurationError:
    """The refusal of a keyring under no passphrase: whoever puts one there chooses every key."""
    return ConfigurationError(
        f"{where}: expected a keyring under a passphrase, since [secure_ml] "
        "keyring_passphrase_path is set; found one, or asked for one, under none. If nobody took "
        "it out, somebody replaced it: restore the file from a backup. A new one is put under it "
        "by `secure-ml keys passphrase`, or made under it by `keys init --passphrase`"
    )


def forget() -> None:
    """Wipe every derived key; the passphrase is asked for again."""
    with _lock:
        wipe(*_kept.values())
        _kept.clear()


def _keep(kdf: Kdf, key: bytearray) -> None:
    _kept[kdf] = key
    while len(_kept) > _MAX_KEPT:
        wipe(_kept.pop(next(iter(_kept))))
